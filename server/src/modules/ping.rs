//! XEP-0199: XMPP Ping.
//!
//! Only the answer. Clients that are silent are asked by the node itself (`node/idle.rs`), whatever modules run.
use std::sync::Arc;

use protocol::ns;

use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;

pub use super::config::Ping as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers pings to the domain and to accounts.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let ping = Arc::new(Ping);
    start.feature(Target::Server, ns::PING);
    start.feature(Target::Account, ns::PING);
    start.iq(("ping", ns::PING), Target::Server, &ping)?;
    start.iq(("ping", ns::PING), Target::Account, &ping)
}

struct Ping;

impl HandleIq for Ping {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        let is_account = request.to.local().is_some();
        if is_account && !request.is_own_account() {
            // The same for accounts that exist and those that do not.
            return Err(protocol::StanzaCondition::ServiceUnavailable.into());
        }
        if request.stanza_type != protocol::StanzaType::Get {
            return Err(protocol::StanzaCondition::BadRequest.into());
        }
        Ok(None)
    }
}
