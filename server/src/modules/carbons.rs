//! XEP-0280: Message Carbons.
//!
//! Here clients switch copies on and off; who gets which copy is a matter of routing (`router/copies.rs`).
use std::sync::Arc;

use protocol::{StanzaCondition, StanzaType, ns};

use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::Flag;
use crate::router::Route;

pub use super::config::Carbons as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Lets sessions ask for copies.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    start.feature(Target::Server, ns::CARBONS);
    start.feature(Target::Server, ns::CARBONS_RULES);
    start.iq(
        ("enable", ns::CARBONS),
        Target::Account,
        &Arc::new(Switch { is_on: true }),
    )?;
    start.iq(
        ("disable", ns::CARBONS),
        Target::Account,
        &Arc::new(Switch { is_on: false }),
    )
}

/// Switches copies on or off for the session that asks.
struct Switch {
    is_on: bool,
}

impl HandleIq for Switch {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        let Some(session) = request
            .session
            .as_ref()
            .filter(|_| request.is_own_account())
        else {
            // The same for accounts that exist and those that do not.
            return Err(StanzaCondition::ServiceUnavailable.into());
        };
        if request.stanza_type != StanzaType::Set {
            return Err(StanzaCondition::BadRequest.into());
        }
        if self.is_on {
            session.set(Flag::Carbons);
        } else {
            session.clear(Flag::Carbons);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
