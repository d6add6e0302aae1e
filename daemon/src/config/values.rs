//! Types of option values that many options share.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The schema keyword that says the unit of a number.
pub(super) const UNIT_KEYWORD: &str = "x-unit";

/// What a string must look like where a number or `infinity` may stand.
pub(super) const INFINITY_PATTERN: &str = "^infinity$";

macro_rules! duration {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $from:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The same as a duration.
            pub const fn duration(self) -> Duration {
                $from(self.0)
            }
        }

        impl From<$name> for Duration {
            fn from(value: $name) -> Self {
                value.duration()
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "format": "uint64", "minimum": 0, "x-unit": $unit })
            }
        }
    };
}

duration!(
    /// A time in milliseconds.
    Millis,
    "ms",
    Duration::from_millis
);
duration!(
    /// A time in seconds.
    Seconds,
    "s",
    Duration::from_secs
);

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The same as a size in memory.
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "uint64", "minimum": 0, "x-unit": "bytes" })
    }
}

/// A number, or the word `"infinity"` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrInfinity<T> {
    /// This much.
    Value(T),
    /// No limit.
    Infinity,
}

impl<T> OrInfinity<T> {
    /// The number, or `None` for no limit.
    pub fn finite(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Infinity => None,
        }
    }
}

impl<T: Serialize> Serialize for OrInfinity<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Infinity => serializer.serialize_str("infinity"),
        }
    }
}

/// Written by hand: `untagged` would buffer the value and lose the line of an error.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrInfinity<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrInfinityVisitor(PhantomData))
    }
}

struct OrInfinityVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrInfinityVisitor<T> {
    type Value = OrInfinity<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an integer or \"infinity\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(OrInfinity::Value)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(OrInfinity::Value)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
        match word {
            "infinity" => Ok(OrInfinity::Infinity),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrInfinity<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrInfinity", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert("type".into(), Value::from(vec!["integer", "string"]));
        schema.insert("pattern".into(), INFINITY_PATTERN.into());
        schema
    }
}
