//! XEP-0054: vcard-temp, and XEP-0055: Jabber Search among the vCards of a domain.
//!
//! An account's vCard is kept as its client sent it and shown to everybody who asks; pictures and their hashes
//! (XEP-0153) are the clients'. [`search`] finds people at a subdomain, [`store`] keeps both.
use std::sync::Arc;

use protocol::{BareJid, Element, StanzaCondition, StanzaError, StanzaType, ns};

use self::search::{Directory, Fields};
use self::store::{VCARD_BYTES_MAX, VcardStore};
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;
use crate::storage;

pub mod search;
pub mod store;

pub use super::config::Vcard as Config;

/// The key of this module.
const KEY: &str = "mod_vcard";
/// What the server says of itself.
const SERVER: [(&str, &str); 2] = [("FN", "Meerkat"), ("DESC", "An XMPP server")];

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers who asks for a vCard, and searches if that is wanted. Rows go with those of the account, in one transaction
/// of its store.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let store = VcardStore::new(start.db.clone());
    let vcards = Arc::new(Vcards {
        store: store.clone(),
        accounts: start.auth.accounts(),
    });
    for target in [Target::Server, Target::Account] {
        start.feature(target, ns::VCARD);
    }
    start.iq(("vCard", ns::VCARD), Target::Account, &vcards)?;
    let server = Arc::new(Server);
    start.iq(("vCard", ns::VCARD), Target::Server, &server)?;
    if config.search {
        let directory = Directory::new(store, config.matches);
        let requests = search::requests(KEY, directory, &server);
        let requests = requests.map_err(|reason| start.error(reason))?;
        start.subdomain(&config.host, &Arc::new(requests))?;
    }
    Ok(())
}

struct Vcards {
    store: VcardStore,
    accounts: Accounts,
}

impl HandleIq for Vcards {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        let account = request.to.to_bare();
        if request.stanza_type == StanzaType::Get {
            return self.get(&account, request.is_own_account()).await;
        }
        // The same for an account that does not exist: nobody learns which do.
        if !request.is_own_account() {
            return Err(StanzaCondition::Forbidden.into());
        }
        self.set(&account, &request.payload).await
    }
}

impl Vcards {
    /// Who has none is told so; of others it is the same as of an account that does not exist.
    async fn get(&self, account: &BareJid, is_own: bool) -> Answer {
        let vcard = self.store.load(account).await.map_err(refuse_for_now)?;
        match vcard {
            Some(vcard) => Ok(Some(vcard)),
            None if is_own => Ok(Some(Element::new("vCard", ns::VCARD))),
            None => Err(StanzaCondition::ServiceUnavailable.into()),
        }
    }

    async fn set(&self, account: &BareJid, vcard: &Element) -> Answer {
        let xml = to_stored(vcard)?;
        // The rows of an anonymous account would never be removed.
        let is_kept = self.accounts.exists(account).await;
        if !is_kept.map_err(refuse_for_now)? {
            let text = "this account keeps no vCard";
            return Err(StanzaError::new(StanzaCondition::NotAllowed).with_text(text));
        }
        let set = self.store.set(account, xml, &Fields::of(vcard)).await;
        set.map_err(refuse_for_now)?;
        Ok(None)
    }
}

/// The domain's own vCard, which nobody changes.
struct Server;

impl HandleIq for Server {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        if request.stanza_type != StanzaType::Get {
            return Err(StanzaCondition::NotAllowed.into());
        }
        let mut vcard = Element::new("vCard", ns::VCARD);
        for (name, text) in SERVER {
            vcard.push(Element::new(name, ns::VCARD).with_text(text));
        }
        Ok(Some(vcard))
    }
}

/// The text that is kept. It can be longer than what was sent, as each element says its namespace; what could not be
/// read again is refused now.
fn to_stored(vcard: &Element) -> Result<String, StanzaError> {
    let xml = vcard.to_xml();
    if xml.len() > VCARD_BYTES_MAX || Element::parse(xml.as_bytes(), ns::VCARD).is_err() {
        return Err(
            StanzaError::new(StanzaCondition::PolicyViolation).with_text("the vCard is too large")
        );
    }
    Ok(xml)
}

fn refuse_for_now(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "a vCard failed");
    error.to_stanza_error()
}

#[cfg(test)]
mod tests;
