//! XEP-0077: In-Band Registration, as far as it does not matter how somebody asks: who may have an account, and how many.
//!
//! What is asked is refused in this order: from where, too often, no such name, not for them, too weak a password; only
//! then is looked whether somebody has the name. So nobody learns names faster than [`limits`] let them try.
use std::net::IpAddr;
use std::sync::Arc;

use protocol::error::ErrorType;
use protocol::{BareJid, Element, JidRef, Stanza, StanzaCondition, StanzaError, ns};

use super::{Error, RegisterError};
use crate::host::Host;
use crate::router::{Delivery, Route};

pub mod limits;
pub mod network;
pub mod query;

use network::Network;

/// Who may register on a host, and what is done when somebody has.
#[derive(Debug, Default)]
pub struct Registration {
    /// The access rule that the new address has to pass.
    pub access: Box<str>,
    /// From where; the first network that has the address says it, and anybody may whom none has.
    pub networks: Vec<(Network, bool)>,
    /// Bits of entropy that a password needs at least.
    pub strength_min: u32,
    /// What a new account is sent: subject and text.
    pub welcome: Option<(String, String)>,
    /// Who is told of each new account.
    pub watchers: Vec<BareJid>,
}

impl Registration {
    /// Whether somebody from there may register at all.
    pub fn admits(&self, peer: IpAddr) -> bool {
        let mut networks = self.networks.iter();
        networks
            .find(|(network, _)| network.has(peer))
            .is_none_or(|(_, is_allowed)| *is_allowed)
    }

    /// Makes an account for somebody who has none.
    pub async fn register(
        &self,
        route: &mut Route,
        host: &Arc<Host>,
        peer: IpAddr,
        (name, domain): (&str, &str),
        password: &str,
    ) -> Result<BareJid, StanzaError> {
        let made = self.make(route, host, peer, (name, domain), password).await;
        let metrics = &route.router.metrics.logins;
        match &made {
            Ok(account) => {
                metrics.registered.inc();
                let account = account.clone();
                self.tell(route, &account, peer).await;
            }
            Err(_) => _ = metrics.registrations_refused.inc(),
        }
        made
    }

    async fn make(
        &self,
        route: &Route,
        host: &Arc<Host>,
        peer: IpAddr,
        (name, domain): (&str, &str),
        password: &str,
    ) -> Result<BareJid, StanzaError> {
        if !self.admits(peer) {
            return Err(StanzaError::new(StanzaCondition::Forbidden)
                .with_text("nobody registers from this address"));
        }
        let Some(place) = route.router.registrations.place(peer) else {
            return Err(StanzaError::new(StanzaCondition::ResourceConstraint)
                .with_type(ErrorType::Wait)
                .with_text("too many accounts were asked for, try again later"));
        };
        let account = BareJid::from_parts(Some(name), domain).map_err(|_| {
            StanzaError::new(StanzaCondition::NotAcceptable).with_text("this is no user name")
        })?;
        if !route
            .router
            .allows(&host.access, &self.access, account.as_ref())
        {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.check_password(password)?;
        host.auth
            .register(&account, password)
            .await
            .map_err(|error| refusal(&error))?;
        place.keep();
        Ok(account)
    }

    /// Refuses a password that is too weak.
    pub fn check_password(&self, password: &str) -> Result<(), StanzaError> {
        if entropy(password) >= f64::from(self.strength_min) {
            return Ok(());
        }
        Err(StanzaError::new(StanzaCondition::NotAcceptable)
            .with_text("the password is too easy to guess"))
    }

    /// Welcomes the account, and tells those who watch.
    async fn tell(&self, route: &mut Route, account: &BareJid, peer: IpAddr) {
        let domain = account.domain();
        if let Some((subject, body)) = &self.welcome {
            let message = message(domain, account.as_ref(), subject, body);
            deliver(route, message).await;
        }
        for watcher in &self.watchers {
            let body = format!("{} was registered from {peer}", account.as_str());
            let message = message(domain, watcher.as_ref(), "", &body);
            deliver(route, message).await;
        }
    }
}

fn message(from: &str, to: JidRef<'_>, subject: &str, body: &str) -> Element {
    let mut message = Element::new("message", ns::CLIENT)
        .with_attr("from", from)
        .with_attr("to", to.as_str());
    for (name, text) in [("subject", subject), ("body", body)] {
        if !text.is_empty() {
            message.push(Element::new(name, ns::CLIENT).with_text(text));
        }
    }
    message
}

async fn deliver(route: &mut Route, message: Element) {
    match Stanza::from_element(&message) {
        Ok(stanza) => {
            let token = None;
            route.route(Delivery { stanza, token }).await;
        }
        Err(_) => tracing::error!("a message about a new account is no stanza"),
    }
}

/// What somebody is told who gets no account, or no new password.
pub fn refusal(error: &RegisterError) -> StanzaError {
    let of = |condition, text: &'static str| StanzaError::new(condition).with_text(text);
    match error {
        RegisterError::Exists => of(StanzaCondition::Conflict, "somebody has this name"),
        RegisterError::Password => of(
            StanzaCondition::NotAcceptable,
            "the password is empty, too long or has characters that are not allowed",
        ),
        RegisterError::Full(_) => of(
            StanzaCondition::NotAllowed,
            "the server takes no more accounts",
        ),
        RegisterError::NotStored => of(StanzaCondition::NotAllowed, "there are no accounts here"),
        RegisterError::Auth(Error::Overloaded(_)) => of(
            StanzaCondition::ResourceConstraint,
            "the server is busy, try again later",
        )
        .with_type(ErrorType::Wait),
        RegisterError::Auth(Error::Storage(error)) => {
            tracing::error!(%error, "an account could not be written");
            error.to_stanza_error()
        }
    }
}

/// Bits of entropy of a password of its length whose characters are taken at random from the kinds that it has.
fn entropy(password: &str) -> f64 {
    let has = |is_of: fn(char) -> bool| password.chars().any(is_of);
    let choices: u32 = [
        (has(|c| c.is_ascii_lowercase()), 26),
        (has(|c| c.is_ascii_uppercase()), 26),
        (has(|c| c.is_ascii_digit()), 10),
        (has(|c| c.is_ascii_punctuation() || c == ' '), 33),
        (has(|c| !c.is_ascii()), 128),
    ]
    .iter()
    .map(|(has, choices)| if *has { *choices } else { 0 })
    .sum();
    let length = u32::try_from(password.chars().count()).unwrap_or(u32::MAX);
    f64::from(length) * f64::from(choices.max(1)).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_mixed_passwords_are_strong() {
        for (password, bits) in [
            ("", 0.0),
            ("aaaa", 18.8),
            ("aaaaaaaa", 37.6),
            ("aB3$", 26.3),
            ("12345678", 26.6),
            ("pässword", 58.1),
            ("correct horse battery staple", 164.7),
        ] {
            let found = entropy(password);
            assert!((found - bits).abs() < 0.1, "{password}: {found}");
        }
    }

    #[test]
    fn the_first_network_that_has_the_address_decides() {
        let registration = |networks: &[(&str, bool)]| Registration {
            networks: networks
                .iter()
                .map(|(text, is_allowed)| {
                    let network = Network::try_from((*text).to_owned());
                    (network.unwrap(), *is_allowed)
                })
                .collect(),
            ..Registration::default()
        };
        let home = "192.0.2.1".parse().unwrap();
        assert!(registration(&[]).admits(home));
        assert!(!registration(&[("192.0.2.0/24", false)]).admits(home));
        assert!(registration(&[("192.0.2.0/24", true), ("0.0.0.0", false)]).admits(home));
        assert!(!registration(&[("198.51.100.0/24", true), ("0.0.0.0", false)]).admits(home));
        assert!(registration(&[("::", false)]).admits(home));
        assert!(!registration(&[("192.0.2.1", false)]).admits("::ffff:192.0.2.1".parse().unwrap()));
    }
}
