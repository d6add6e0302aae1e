//! XEP-0199: XMPP Ping.
//!
//! The answer, and how soon silent clients are asked. The node itself does that (`node/idle.rs`), whatever modules run.
use std::sync::Arc;

use daemon::config::Seconds;
use protocol::ns;

use super::config::TimeoutAction;
use super::{Needs, Start, StartError};
use crate::host::Pings;
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;

pub use super::config::Ping as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers pings to the domain and to accounts.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let secs = |time: Seconds| u32::try_from(time.duration().as_secs()).unwrap_or(u32::MAX);
    start.made.pings = config.send_pings.then(|| Pings {
        interval_secs: secs(config.ping_interval),
        answer_secs: secs(config.ping_req_timeout),
        is_lost: config.timeout_action == TimeoutAction::Kill,
    });
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
