//! XEP-0202: Entity Time.
//!
//! The domain's answer, in UTC: where the machine stands is nobody's business.
use std::sync::Arc;

use protocol::{Element, StanzaCondition, StanzaType, ns};

use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;
use crate::stamp;

pub use super::config::Time as Config;

/// The offset of UTC from itself. XEP-0082 knows `Z` too, but not every client does.
const OFFSET: &str = "+00:00";

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers who asks the domain.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let time = Arc::new(Time);
    start.feature(Target::Server, ns::TIME);
    start.iq(("time", ns::TIME), Target::Server, &time)
}

fn time(now_us: i64) -> Element {
    let field = |name: &str, value: &str| Element::new(name, ns::TIME).with_text(value);
    Element::new("time", ns::TIME)
        .with_child(field("tzo", OFFSET))
        .with_child(field("utc", &stamp::format_us(now_us)))
}

struct Time;

impl HandleIq for Time {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        if request.stanza_type != StanzaType::Get {
            return Err(StanzaCondition::BadRequest.into());
        }
        Ok(Some(time(stamp::now_us())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_said_in_utc() {
        assert_eq!(
            time(1_031_699_305_123_456).to_xml(),
            "<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2002-09-10T23:08:25.123Z</utc></time>"
        );
    }
}
