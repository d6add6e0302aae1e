//! The scalars of the admin schema: names and forms are MongooseIM's.
//!
//! Each is checked where it is read, so that a command gets an address, never a text that may be one.
use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use protocol::jid::prepare_domain;
use protocol::{BareJid, Element, FullJid, Jid, ns};

use crate::stamp;

/// Bytes of one text in an argument: the largest is an element of XML.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What its command answers for a value that is not of that form.
fn refuse<T: async_graphql::InputType>(message: impl std::fmt::Display) -> InputValueError<T> {
    InputValueError::custom(message).with_extension("code", "input_coercion")
}

fn text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) if text.len() <= TEXT_BYTES_MAX => Ok(text),
        Value::String(_) => Err("the text is too long"),
        _ => Err("a text is expected"),
    }
}

fn integer(value: &Value, min: i64) -> Result<u32, String> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        _ => None,
    };
    number
        .filter(|number| *number >= min)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("a whole number from {min} to {} is expected", u32::MAX))
}

macro_rules! scalars {
    ($($(#[doc = $doc:tt])+ $type:ident($inner:ty) = $name:tt, $parse:expr, $write:expr;)*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $type(pub $inner);

        $(#[doc = $doc])+
        #[Scalar(name = $name)]
        impl ScalarType for $type {
            fn parse(value: Value) -> InputValueResult<Self> {
                let parse: fn(Value) -> Result<$inner, String> = $parse;
                parse(value).map(Self).map_err(refuse)
            }

            fn is_valid(value: &Value) -> bool {
                Self::parse(value.clone()).is_ok()
            }

            fn to_value(&self) -> Value {
                let write: fn(&$inner) -> Value = $write;
                write(&self.0)
            }
        }
    )*};
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

scalars! {
    /// An XMPP address, such as `romeo@localhost` or `romeo@localhost/phone`.
    JidText(Jid) = "JID",
        |value| Jid::parse(&text(value)?).map_err(|error| error.to_string()),
        |jid| string(jid.as_str());
    /// An XMPP address without a resource, such as `romeo@localhost`.
    BareJidText(BareJid) = "BareJID",
        |value| BareJid::parse(&text(value)?).map_err(|error| error.to_string()),
        |jid| string(jid.as_str());
    /// An XMPP address with a resource, such as `romeo@localhost/phone`.
    FullJidText(FullJid) = "FullJID",
        |value| FullJid::parse(&text(value)?).map_err(|error| error.to_string()),
        |jid| string(jid.as_str());
    /// The part of an address before the `@`.
    UserName(String) = "UserName", user_name, |name| string(name);
    /// The domain of an address.
    DomainName(String) = "DomainName",
        |value| prepare_domain(&text(value)?).map(Into::into).map_err(|error| error.to_string()),
        |name| string(name);
    /// The part of an address behind the `/`.
    ResourceName(String) = "ResourceName", resource_name, |name| string(name);
    /// A time in UTC, such as `2026-05-17T12:30:00Z`. Microseconds since 1970 inside.
    DateTime(i64) = "DateTime",
        |value| stamp::parse_us(&text(value)?).ok_or_else(|| "a time such as 2026-05-17T12:30:00Z is expected".into()),
        |us| string(&stamp::format_us(*us));
    /// An element of XML, as text.
    XmlElement(Element) = "XmlElement",
        |value| Element::parse(text(value)?.as_bytes(), ns::CLIENT).map_err(|_| "this is no element of XML".into()),
        |element| string(&element.to_xml());
    /// A text of at least one character.
    NonEmptyString(String) = "NonEmptyString",
        |value| Some(text(value)?).filter(|text| !text.is_empty()).ok_or_else(|| "the text is empty".into()),
        |text| string(text);
    /// A whole number from 1 on.
    PosInt(u32) = "PosInt", |value| integer(&value, 1), |number| (*number).into();
    /// A whole number from 0 on.
    NonNegInt(u32) = "NonNegInt", |value| integer(&value, 0), |number| (*number).into();
}

/// By the rules of a local part, which do not depend on the domain.
fn user_name(value: Value) -> Result<String, String> {
    let jid = BareJid::from_parts(Some(&text(value)?), "localhost");
    let jid = jid.map_err(|error| error.to_string())?;
    Ok(jid.local().unwrap_or_default().to_owned())
}

fn resource_name(value: Value) -> Result<String, String> {
    let jid = FullJid::from_parts(None, "localhost", &text(value)?);
    Ok(jid
        .map_err(|error| error.to_string())?
        .resource()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: ScalarType>(good: &[(Value, Value)], bad: &[Value]) {
        for (input, output) in good {
            let parsed = T::parse(input.clone());
            let Ok(parsed) = parsed else {
                panic!("{input}")
            };
            assert_eq!(parsed.to_value(), *output);
            assert!(T::is_valid(input));
        }
        for input in bad {
            assert!(!T::is_valid(input), "{input}");
            assert!(T::parse(input.clone()).is_err(), "{input}");
        }
    }

    fn pair(input: &str, output: &str) -> (Value, Value) {
        (string(input), string(output))
    }

    /// Security case G06: what is not of its form is refused, of whatever type it is.
    #[test]
    fn g06_scalars_are_checked_where_they_are_read() {
        let none = [
            Value::Null,
            Value::Boolean(true),
            1.into(),
            Value::List(vec![]),
            string(""),
        ];
        check::<JidText>(&[pair("Romeo@LOCALHOST/X", "romeo@localhost/X")], &none);
        check::<BareJidText>(&[pair("romeo@localhost", "romeo@localhost")], &none);
        check::<BareJidText>(&[], &[string("romeo@localhost/x")]);
        check::<FullJidText>(&[pair("romeo@localhost/x", "romeo@localhost/x")], &none);
        check::<FullJidText>(&[], &[string("romeo@localhost")]);
        check::<UserName>(&[pair("Romeo", "romeo")], &none);
        check::<UserName>(&[], &[string("a@b"), string("a b"), string("a/b")]);
        check::<DomainName>(&[pair("LocalHost", "localhost")], &none);
        check::<DomainName>(&[], &[string("a@b"), string("a b")]);
        check::<ResourceName>(&[pair("Phone", "Phone")], &none);
        check::<NonEmptyString>(&[pair(" ", " ")], &none);
        let long = string(&"x".repeat(TEXT_BYTES_MAX + 1));
        check::<NonEmptyString>(&[], &[long]);
        let xml = "<a xmlns='b'>c</a>";
        check::<XmlElement>(&[pair(xml, xml)], &none);
        check::<XmlElement>(&[], &[string("<a>"), string("text"), string("<a/><b/>")]);
    }

    #[test]
    fn g06_numbers_have_a_range() {
        let max = Value::from(u32::MAX);
        check::<PosInt>(&[(1.into(), 1.into()), (max.clone(), max.clone())], &[]);
        check::<NonNegInt>(&[(0.into(), 0.into()), (max.clone(), max)], &[]);
        let bad = [
            Value::Null,
            (-1).into(),
            (1_u64 << 63).into(),
            1.5.into(),
            string("1"),
        ];
        check::<PosInt>(&[], &bad);
        check::<NonNegInt>(&[], &bad);
        check::<PosInt>(&[], &[0.into()]);
    }

    #[test]
    fn times_are_read_and_written() {
        let good = [
            pair("2026-05-17T12:30:00Z", "2026-05-17T12:30:00.000Z"),
            pair("2026-05-17T14:30:00.5+02:00", "2026-05-17T12:30:00.500Z"),
        ];
        check::<DateTime>(&good, &[string("yesterday"), 1.into(), string("")]);
    }
}
