//! XEP-0077: In-Band Registration, as a module: its options, and what those ask who have an account.
//!
//! How strangers get one lies in the negotiation (`c2s/negotiate/register.rs`), who may have one in
//! `auth/registration.rs`, and how one is removed in `router/removal.rs`.
use std::sync::Arc;

use protocol::{BareJid, Element, StanzaCondition, StanzaError, StanzaType, ns};

use super::{Needs, Start, StartError};
use crate::auth::registration::query::{self, Wish};
use crate::auth::registration::{Registration, refusal};
use crate::host::Host;
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::SessionRef;
use crate::router::Route;

pub use super::config::Register as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Lets people make accounts, and change and remove their own.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    if !start.auth.keeps_accounts() {
        return Err(start.error("the configured authentication methods keep no accounts"));
    }
    let registration = Arc::new(registration(&config));
    start.feature(Target::Server, ns::REGISTER);
    for target in [Target::Server, Target::Account] {
        start.iq(
            ("query", ns::REGISTER),
            target,
            &Arc::new(Own(registration.clone())),
        )?;
    }
    start.made.registration = Some(registration);
    Ok(())
}

fn registration(config: &Config) -> Registration {
    let welcome = &config.welcome_message;
    let networks = config.ip_access.iter();
    Registration {
        access: config.access.as_str().into(),
        networks: networks
            .map(|of| (of.address.clone(), of.policy.is_allowed()))
            .collect(),
        strength_min: config.password_strength,
        welcome: (!welcome.subject.is_empty() || !welcome.body.is_empty())
            .then(|| (welcome.subject.clone(), welcome.body.clone())),
        watchers: config
            .registration_watchers
            .iter()
            .map(|watcher| watcher.address().clone())
            .collect(),
    }
}

/// Answers those who have logged in about their own account.
struct Own(Arc<Registration>);

impl HandleIq for Own {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        let Some(session) = &request.session else {
            // The same for accounts that exist and those that do not.
            return Err(StanzaCondition::ServiceUnavailable.into());
        };
        let account = session.jid().to_bare();
        let Some(host) = route.router.host(account.domain()) else {
            return Err(StanzaCondition::ServiceUnavailable.into());
        };
        if request.to.domain() != account.domain() {
            return Err(StanzaCondition::NotAllowed.into());
        }
        match (request.stanza_type, query::wish(&request.payload)?) {
            (StanzaType::Get, _) => Ok(Some(query::fields_of(&account))),
            (_, Wish::Remove) => remove(route, &host, &account, session).await,
            (
                _,
                Wish::Have {
                    name: Some(name),
                    password: Some(password),
                },
            ) => {
                self.change_password(&host, &account, &name, &password)
                    .await
            }
            (_, Wish::Have { .. }) => Err(StanzaCondition::BadRequest.into()),
        }
    }
}

impl Own {
    /// The account's other sessions go on: who has the old password cannot begin a new one.
    async fn change_password(
        &self,
        host: &Host,
        account: &BareJid,
        name: &str,
        password: &str,
    ) -> Answer {
        let named = BareJid::from_parts(Some(name), account.domain());
        if named.as_ref() != Ok(account) {
            return Err(StanzaCondition::NotAllowed.into());
        }
        self.0.check_password(password)?;
        match host.auth.set_password(account, password).await {
            Ok(true) => Ok(None),
            // Somebody without a name of their own, or whose account was removed.
            Ok(false) => Err(StanzaCondition::NotAllowed.into()),
            Err(error) => Err(refusal(&error)),
        }
    }
}

/// The answer comes first, then the end of the stream.
async fn remove(
    route: &mut Route,
    host: &Arc<Host>,
    account: &BareJid,
    session: &SessionRef,
) -> Result<Option<Element>, StanzaError> {
    match route.remove_account(host, account, Some(session)).await? {
        true => Ok(None),
        false => Err(StanzaCondition::NotAllowed.into()),
    }
}

#[cfg(test)]
mod tests;
