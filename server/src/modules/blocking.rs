//! XEP-0191: Blocking Command.
//!
//! What is blocked are items of the account's default privacy list, which `mod_privacy` keeps and asks. Here are the
//! words of clients.
use std::sync::Arc;

use protocol::{Element, Jid, StanzaCondition, StanzaError, StanzaType, ns};

use super::privacy::Privacy;
use super::privacy::store::Edit;
use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::SessionRef;
use crate::router::Route;

pub use super::config::Blocking as Config;

/// Privacy lists, which hold what is blocked.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_privacy")
}

/// Answers an account's own clients.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let privacy = start.get::<Privacy>()?;
    for target in [Target::Server, Target::Account] {
        start.feature(target, ns::BLOCKING);
    }
    for name in ["blocklist", "block", "unblock"] {
        let blocking = Arc::new(Blocking(privacy.clone()));
        start.iq((name, ns::BLOCKING), Target::Account, &blocking)?;
    }
    Ok(())
}

struct Blocking(Arc<Privacy>);

impl HandleIq for Blocking {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        // The same for an account that does not exist: nobody learns which do.
        let Some(session) = request
            .session
            .as_ref()
            .filter(|_| request.is_own_account())
        else {
            return Err(StanzaCondition::Forbidden.into());
        };
        let payload = &request.payload;
        match (payload.name(), request.stanza_type) {
            ("blocklist", StanzaType::Get) => {
                let blocked = self.0.show_blocked(route, session).await?;
                Ok(Some(element("blocklist", &blocked)))
            }
            ("block", StanzaType::Set) => {
                let jids = addresses(payload)?;
                refuse_own(session, &jids)?;
                if jids.is_empty() {
                    return Err(bad("nobody is named who is to be blocked"));
                }
                let told = element("block", &jids);
                self.edit(route, session, Edit::Block(jids), &told).await
            }
            ("unblock", StanzaType::Set) => {
                let jids = addresses(payload)?;
                let told = element("unblock", &jids);
                let edit = if jids.is_empty() {
                    Edit::UnblockAll
                } else {
                    Edit::Unblock(jids)
                };
                self.edit(route, session, edit, &told).await
            }
            _ => Err(StanzaCondition::BadRequest.into()),
        }
    }
}

impl Blocking {
    async fn edit(
        &self,
        route: &mut Route,
        session: &SessionRef,
        edit: Edit,
        told: &Element,
    ) -> Answer {
        self.0.edit_blocked(route, session, edit, told).await?;
        Ok(None)
    }
}

/// The addresses of the items (section 4).
fn addresses(payload: &Element) -> Result<Vec<Jid>, StanzaError> {
    let parse = |item: &Element| {
        let jid = item.attr("jid").filter(|_| item.is("item", ns::BLOCKING));
        let jid = jid.ok_or_else(|| bad("an item names an address"))?;
        Jid::parse(jid).map_err(|_| StanzaError::new(StanzaCondition::JidMalformed))
    };
    payload.elements().map(parse).collect()
}

/// Nothing of the own account and server is ever kept back, so nobody shall believe that it is.
fn refuse_own(session: &SessionRef, jids: &[Jid]) -> Result<(), StanzaError> {
    let own = session.jid();
    let is_own = |jid: &Jid| {
        let is_server = jid.local().is_none() && jid.domain() == own.domain();
        // All users of the own domain but oneself can be blocked, by its name.
        (is_server && jid.resource().is_some()) || jid.bare_str() == own.bare_str()
    };
    if jids.iter().any(is_own) {
        let text = "the own account and its server cannot be blocked";
        return Err(StanzaError::new(StanzaCondition::NotAllowed).with_text(text));
    }
    Ok(())
}

fn element(name: &str, jids: &[Jid]) -> Element {
    let mut element = Element::new(name, ns::BLOCKING);
    for jid in jids {
        element.push(Element::new("item", ns::BLOCKING).with_attr("jid", jid.as_str()));
    }
    element
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::new(StanzaCondition::BadRequest).with_text(text)
}

#[cfg(test)]
mod tests;
