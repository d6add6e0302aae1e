//! Networks in configuration, as they are written there.
use std::borrow::Cow;
use std::net::IpAddr;

use protocol::proxy;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A network. An address alone is a network of one; `0.0.0.0` and `::`, from which nobody comes, are all of their kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    text: String,
    network: proxy::Network,
}

impl Network {
    /// Whether the address is in it. An IPv4-mapped address is the IPv4 one.
    pub fn has(&self, address: IpAddr) -> bool {
        self.network.contains(address)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let of_all = match text.as_str() {
            "0.0.0.0" => "0.0.0.0/0",
            "::" => "::/0",
            text => text,
        };
        match of_all.parse() {
            Ok(network) => Ok(Self { text, network }),
            Err(error) => Err(format!("{text:?} is no network: {error}")),
        }
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.text
    }
}

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_from_which_nobody_comes_is_all_of_them() {
        let network = |text: &str| Network::try_from(text.to_owned());
        for (text, address, expected) in [
            ("0.0.0.0", "203.0.113.9", true),
            ("0.0.0.0", "2001:db8::1", false),
            ("::", "2001:db8::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "::ffff:192.0.2.1", true),
        ] {
            let network = network(text).unwrap();
            let has = network.has(address.parse().unwrap());
            assert_eq!(has, expected, "{address} in {text}");
            assert_eq!(String::from(network), text);
        }
        for text in ["", "localhost", "1.2.3.4/33", "1.2.3.4/8"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
