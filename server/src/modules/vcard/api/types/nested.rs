//! A vCard within a vCard: how deep that goes is known before it is read.
use std::borrow::Cow;

use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueError, InputValueResult, Value};

use super::VcardInput;

/// Levels of objects and lists in the vCard of an agent: two more agents within, with all they have. A document asks for
/// no more of them.
const AGENT_LEVELS_MAX: usize = 10;

/// The vCard of an agent.
pub(super) struct AgentVcardInput(pub(super) Box<VcardInput>);

fn levels(value: &Value) -> usize {
    let inner = match value {
        Value::List(items) => items.iter().map(levels).max(),
        Value::Object(fields) => fields.values().map(levels).max(),
        _ => return 0,
    };
    inner.unwrap_or_default() + 1
}

impl InputType for AgentVcardInput {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <VcardInput as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <VcardInput as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        if value
            .as_ref()
            .is_some_and(|value| levels(value) > AGENT_LEVELS_MAX)
        {
            let text = "the vCards of agents stand too deep within each other";
            return Err(InputValueError::custom(text).with_extension("code", "input_coercion"));
        }
        let vcard = <VcardInput as InputType>::parse(value);
        let vcard = vcard.map_err(InputValueError::propagate)?;
        Ok(Self(Box::new(vcard)))
    }

    fn to_value(&self) -> Value {
        <VcardInput as InputType>::to_value(&self.0)
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}
