//! XEP-0092: Software Version.
//!
//! The domain's answer. Clients are asked at their full addresses, and accounts run no software.
use std::sync::Arc;

use protocol::{Element, StanzaCondition, StanzaType, ns};

use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;

pub use super::config::Version as Config;

/// What the program is called.
const NAME: &str = "Meerkat";
/// Where Linux says which release of it runs.
const LINUX_RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers who asks the domain.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let os = match config.os_info {
        true => Some(os().await),
        false => None,
    };
    let version = Arc::new(Version {
        query: query(os.as_deref()),
    });
    start.feature(Target::Server, ns::VERSION);
    start.iq(("query", ns::VERSION), Target::Server, &version)
}

/// The operating system, with its release where that is told.
async fn os() -> String {
    let name = std::env::consts::OS;
    match tokio::fs::read_to_string(LINUX_RELEASE).await {
        Ok(release) => format!("{name} {}", release.trim()),
        Err(_) => name.to_owned(),
    }
}

fn query(os: Option<&str>) -> Element {
    let field = |name: &str, value: &str| Element::new(name, ns::VERSION).with_text(value);
    let mut query = Element::new("query", ns::VERSION)
        .with_child(field("name", NAME))
        .with_child(field("version", env!("CARGO_PKG_VERSION")));
    if let Some(os) = os {
        query.push(field("os", os));
    }
    query
}

struct Version {
    /// The same to everyone, so it is made once.
    query: Element,
}

impl HandleIq for Version {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        if request.stanza_type != StanzaType::Get {
            return Err(StanzaCondition::BadRequest.into());
        }
        Ok(Some(self.query.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_is_told_only_if_it_is_given() {
        let names = |os| -> Vec<String> {
            let query = query(os);
            let fields = query.elements();
            fields.map(|field| field.name().to_owned()).collect()
        };
        assert_eq!(names(None), ["name", "version"]);
        assert_eq!(names(Some("linux 6.1")), ["name", "version", "os"]);
        let query = query(Some("linux 6.1"));
        let os = query.child("os", ns::VERSION).unwrap();
        assert_eq!(os.text(), "linux 6.1");
    }

    #[tokio::test]
    async fn the_operating_system_has_a_name() {
        let os = os().await;
        assert!(os.starts_with(std::env::consts::OS), "{os}");
        assert_eq!(os, os.trim());
    }
}
