//! XEP-0049: Private XML Storage.
//!
//! One element for each account and namespace, kept as it was sent and given to its owner alone. [`store`] holds it.
use std::sync::Arc;

use protocol::{BareJid, Element, StanzaCondition, StanzaError, StanzaType, ns};

use self::store::{ELEMENT_BYTES_MAX, NAMESPACE_BYTES_MAX, PrivateStore, Quota, Set};
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;
use crate::storage;

pub mod api;
pub mod store;

pub use super::config::Private as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers an account's own clients. What is kept goes with the account, in one transaction of its store.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let private = Arc::new(Private {
        store: PrivateStore::new(start.db.clone(), Quota::default()),
        accounts: start.auth.accounts(),
    });
    for target in [Target::Server, Target::Account] {
        start.feature(target, ns::PRIVATE);
    }
    start.iq(("query", ns::PRIVATE), Target::Account, &private)?;
    start.provide(private);
    Ok(())
}

/// What the accounts of one host keep.
pub struct Private {
    store: PrivateStore,
    accounts: Accounts,
}

impl HandleIq for Private {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        // The same for an account that does not exist: nobody learns which do.
        if !request.is_own_account() {
            return Err(StanzaCondition::Forbidden.into());
        }
        let account = request.from.to_bare();
        let element = only_element(&request.payload)?;
        if request.stanza_type == StanzaType::Get {
            self.get(&account, element).await
        } else {
            self.set(&account, element).await
        }
    }
}

impl Private {
    /// What is kept in the namespace of the element that is asked for; that element, empty, if it is nothing.
    async fn get(&self, account: &BareJid, asked: &Element) -> Answer {
        let kept = self.store.load(account, asked.ns()).await;
        let kept = kept
            .map_err(refuse_for_now)?
            .unwrap_or_else(|| Element::new(asked.name(), asked.ns().to_owned()));
        Ok(Some(Element::new("query", ns::PRIVATE).with_child(kept)))
    }

    async fn set(&self, account: &BareJid, element: &Element) -> Answer {
        let xml = to_stored(element)?;
        // The rows of an anonymous account would never be removed.
        let is_kept = self.accounts.exists(account).await;
        if !is_kept.map_err(refuse_for_now)? {
            let text = "this account keeps nothing";
            return Err(StanzaError::new(StanzaCondition::NotAllowed).with_text(text));
        }
        let set = self.store.set(account, element.ns(), xml).await;
        match set.map_err(refuse_for_now)? {
            Set::Kept => Ok(None),
            Set::Full => Err(too_much("the account keeps as much as it may")),
        }
    }
}

/// The one element of a request, which has a namespace of its own.
fn only_element(query: &Element) -> Result<&Element, StanzaError> {
    let refuse = |text| StanzaError::new(StanzaCondition::NotAcceptable).with_text(text);
    let mut elements = query.elements();
    let (Some(element), None) = (elements.next(), elements.next()) else {
        return Err(refuse("a request has exactly one element"));
    };
    if ["", ns::PRIVATE, ns::CLIENT].contains(&element.ns()) {
        return Err(refuse("the element has no namespace of its own"));
    }
    if element.ns().len() > NAMESPACE_BYTES_MAX {
        return Err(refuse("the name of the namespace is too long"));
    }
    Ok(element)
}

/// The text that is kept. It can be longer than what was sent, as each element says its namespace; what could not be
/// read again is refused now.
fn to_stored(element: &Element) -> Result<String, StanzaError> {
    let xml = element.to_xml();
    if xml.len() > ELEMENT_BYTES_MAX || Element::parse(xml.as_bytes(), ns::PRIVATE).is_err() {
        return Err(too_much("the element is too large"));
    }
    Ok(xml)
}

fn too_much(text: &'static str) -> StanzaError {
    StanzaError::new(StanzaCondition::PolicyViolation).with_text(text)
}

fn refuse_for_now(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "private storage failed");
    error.to_stanza_error()
}

#[cfg(test)]
mod tests;
