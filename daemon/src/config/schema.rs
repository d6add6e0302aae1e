//! Reading the JSON schema that `schemars` makes of a configuration struct.

use serde_json::Value;

/// A schema with its references followed.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    root: &'a Value,
    /// As it stands at the option: with the option's own description, default and range.
    here: &'a Value,
    /// What it refers to, or itself.
    target: &'a Value,
}

/// References in a row that are followed; `schemars` makes one, or two for an optional table.
const REFERENCES_MAX: usize = 8;

impl<'a> Schema<'a> {
    pub(super) fn root(root: &'a Value) -> Self {
        Self::new(root, root)
    }

    fn new(root: &'a Value, here: &'a Value) -> Self {
        let mut target = here;
        for _ in 0..REFERENCES_MAX {
            if let Some(reference) = target.get("$ref").and_then(Value::as_str) {
                let pointer = reference.trim_start_matches('#');
                target = root.pointer(pointer).unwrap_or(&Value::Null);
            } else if let Some(only) = only_alternative(target) {
                target = only;
            } else {
                break;
            }
        }
        Self { root, here, target }
    }

    fn at(self, here: &'a Value) -> Self {
        Self::new(self.root, here)
    }

    /// A keyword of the option itself or, failing that, of what it refers to.
    pub(super) fn keyword(self, keyword: &str) -> Option<&'a Value> {
        let here = self.here.get(keyword);
        here.or_else(|| self.target.get(keyword))
    }

    pub(super) fn text(self, keyword: &str) -> Option<&'a str> {
        self.keyword(keyword).and_then(Value::as_str)
    }

    /// Whether the option itself, and not only its type, has a description.
    pub(super) fn is_described(self) -> bool {
        let text = self.here.get("description").and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    }

    /// Which type it refers to, for a page that describes each type once.
    pub(super) fn definition(self) -> *const Value {
        self.target
    }

    /// The keys of a table, in the order of the struct's fields; `None` if it is not a table with known keys.
    pub(super) fn properties(self) -> Option<impl Iterator<Item = (&'a str, Self)>> {
        let properties = self.target.get("properties")?.as_object()?;
        Some(
            properties
                .iter()
                .map(move |(key, schema)| (key.as_str(), self.at(schema))),
        )
    }

    pub(super) fn property(self, key: &str) -> Option<Self> {
        let properties = self.target.get("properties")?;
        properties.get(key).map(|schema| self.at(schema))
    }

    /// What the values of a table are whose keys the user chooses.
    pub(super) fn any_property(self) -> Option<Self> {
        let schema = self.target.get("additionalProperties")?;
        schema.is_object().then(|| self.at(schema))
    }

    pub(super) fn items(self) -> Option<Self> {
        self.target.get("items").map(|schema| self.at(schema))
    }

    pub(super) fn required(self) -> impl Iterator<Item = &'a str> {
        let keys = self.target.get("required").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn is_table(self) -> bool {
        self.allows("object")
    }

    pub(super) fn is_array(self) -> bool {
        self.allows("array")
    }

    /// Whether a value of this JSON type may stand here.
    pub(super) fn allows(self, kind: &str) -> bool {
        self.kinds().any(|allowed| allowed == kind)
    }

    /// The JSON types that may stand here, `null` apart: TOML has none.
    pub(super) fn kinds(self) -> impl Iterator<Item = &'a str> {
        let kinds = self.target.get("type");
        let one = kinds.and_then(Value::as_str).into_iter();
        let several = kinds.and_then(Value::as_array).into_iter().flatten();
        let words = self.words().is_some().then_some("string");
        let several = several.filter_map(Value::as_str);
        let all = one.chain(several).chain(words);
        all.filter(|kind| *kind != "null")
    }

    /// The words that may stand here, if only certain words may, each with its description.
    pub(super) fn words(self) -> Option<Vec<(&'a str, &'a str)>> {
        if let Some(words) = self.target.get("enum").and_then(Value::as_array) {
            let words = words.iter().filter_map(Value::as_str);
            return Some(words.map(|word| (word, "")).collect());
        }
        let alternatives = self.target.get("oneOf").and_then(Value::as_array)?;
        let mut words = Vec::new();
        for alternative in alternatives {
            let description = alternative.get("description").and_then(Value::as_str);
            if let Some(word) = alternative.get("const").and_then(Value::as_str) {
                words.push((word, description.unwrap_or("")));
            } else {
                let several = alternative.get("enum")?.as_array()?;
                words.extend(
                    several
                        .iter()
                        .filter_map(Value::as_str)
                        .map(|word| (word, "")),
                );
            }
        }
        Some(words)
    }

    /// Whether the word `infinity` may stand where a number is expected.
    pub(super) fn allows_infinity(self) -> bool {
        self.text("pattern") == Some(super::values::INFINITY_PATTERN)
    }

    /// The smallest and the greatest number that may stand here.
    pub(super) fn range(self) -> (i128, i128) {
        let bound = |keyword| {
            let number = self.keyword(keyword)?;
            number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from))
        };
        let (min, max) = match self.text("format") {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") => (0, i128::from(u16::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("uint" | "uint64") => (0, i128::from(i64::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        (
            bound("minimum").unwrap_or(min),
            bound("maximum").unwrap_or(max),
        )
    }
}

impl Schema<'_> {
    /// TOML of a value that may stand here, for an option whose real value was refused.
    pub(super) fn placeholder(self) -> String {
        if let Some(words) = self.words() {
            let word = words.first().map_or("", |(word, _)| word);
            return format!("{word:?}");
        }
        let (min, max) = self.range();
        match self.kinds().next() {
            Some("integer") => 0.clamp(min, max).to_string(),
            Some("number") => "0.0".into(),
            Some("boolean") => "false".into(),
            Some("array") => "[]".into(),
            Some("object") => "{}".into(),
            _ if self.text("format") == Some("ip") => "\"0.0.0.0\"".into(),
            _ => "\"\"".into(),
        }
    }
}

/// The one alternative that is not `null` of an optional value.
fn only_alternative(schema: &Value) -> Option<&Value> {
    let alternatives = schema.get("anyOf")?.as_array()?;
    let is_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("null");
    let mut others = alternatives.iter().filter(|schema| !is_null(schema));
    let only = others.next()?;
    others.next().is_none().then_some(only)
}
