//! Holds a document against the schema of a struct: unknown keys, wrong types, numbers out of range, wrong
//! words, missing keys. Everything that serde would report one at a time, all at once and with names near
//! by.

use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::catalogue::{Catalogue, Known};
use super::finding::Finding;
use super::path::{OptionPath, Segment};
use super::schema::Schema;
use super::source::Source;

pub(super) struct Walk<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) catalogue: &'a Catalogue,
    pub(super) root: Schema<'a>,
    /// A document that could not be read to its end: then nothing is called missing.
    pub(super) is_cut: bool,
    pub(super) found: Found,
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    /// What stops no start.
    pub(super) warnings: Vec<Finding>,
    /// Keys that are not ours, with no value for us.
    pub(super) unknown: Vec<OptionPath>,
    /// Options with a value that cannot be used.
    pub(super) wrong: Vec<Wrong>,
    /// Where secrets stand in the file.
    pub(super) secrets: Vec<Range<usize>>,
}

/// A value: where it stands and what may stand there.
struct At<'a> {
    span: Range<usize>,
    schema: Schema<'a>,
    path: &'a OptionPath,
}

/// An option that is missing or has a value that cannot be used.
pub(super) struct Wrong {
    pub(super) path: OptionPath,
    /// TOML of a value that could be used, so that the rest can be read and checked as well.
    pub(super) placeholder: String,
}

impl Walk<'_> {
    /// Walks a table and all below it. `anchor` is what to point at when a key is missing.
    pub(super) fn table(
        &mut self,
        table: &DeTable<'_>,
        anchor: Range<usize>,
        schema: Schema<'_>,
        path: &OptionPath,
    ) {
        for (key, value) in table {
            let mut below = path.clone();
            below.0.push(Segment::Key(key.get_ref().to_string()));
            let known = schema.property(key.get_ref());
            match known.or_else(|| schema.any_property()) {
                Some(schema) => self.value(value, schema, &below),
                None => self.unknown_key(key, schema, path, below),
            }
        }
        if self.is_cut {
            return;
        }
        for key in schema.required().filter(|key| !table.contains_key(*key)) {
            let message = format!("`{key}` is missing in {}", path.header());
            let hint = format!("add `{key} = …`");
            if path.0.is_empty() {
                self.found.findings.push(Finding::in_file(message, hint));
            } else {
                self.report(anchor.clone(), message, hint);
            }
            let schema = schema.property(key);
            self.found.wrong.push(Wrong {
                path: path.join(key),
                placeholder: schema.map_or_else(String::new, Schema::placeholder),
            });
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, schema: Schema<'_>, path: &OptionPath) {
        let span = value.span();
        if schema.keyword("writeOnly").is_some() {
            self.found.secrets.push(span.clone());
        }
        let at = At {
            span: span.clone(),
            schema,
            path,
        };
        match value.get_ref() {
            DeValue::Table(table) if schema.is_table() => self.table(table, span, schema, path),
            DeValue::Array(array) if schema.is_array() => self.array(array, schema, path),
            DeValue::String(text) if schema.allows("string") => self.string(text, at),
            DeValue::Integer(number) if schema.allows("integer") => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                self.integer(parsed.ok(), at);
            }
            DeValue::Float(_) | DeValue::Integer(_) if schema.allows("number") => {}
            DeValue::Boolean(_) if schema.allows("boolean") => {}
            other => self.wrong_type(other, at),
        }
    }

    fn array(&mut self, array: &DeArray<'_>, schema: Schema<'_>, path: &OptionPath) {
        let Some(items) = schema.items() else { return };
        for (index, item) in array.iter().enumerate() {
            let mut below = path.clone();
            below.0.push(Segment::Index(index));
            self.value(item, items, &below);
        }
    }

    fn integer(&mut self, number: Option<i128>, at: At<'_>) {
        let schema = at.schema;
        let (min, max) = schema.range();
        if number.is_some_and(|number| (min..=max).contains(&number)) {
            return;
        }
        let number = number.map_or_else(|| "the number".to_owned(), |number| number.to_string());
        let unit = schema.text(super::values::UNIT_KEYWORD);
        let unit = unit.map_or_else(String::new, |unit| format!(" {unit}"));
        let infinity = if schema.allows_infinity() {
            ", nor \"infinity\""
        } else {
            ""
        };
        let range = if max >= i128::from(i64::MAX) {
            format!("at least {min}")
        } else {
            format!("between {min} and {max}")
        };
        let message = format!("{number} is not {range}{unit}{infinity}");
        self.wrong(at, &message, String::new());
    }

    fn string(&mut self, text: &str, at: At<'_>) {
        let format = at.schema.text("format");
        let message = if let Some(words) = at.schema.words() {
            let words: Vec<&str> = words.into_iter().map(|(word, _)| word).collect();
            if !words.contains(&text) {
                self.wrong_word(text, &words, at);
            }
            return;
        } else if at.schema.allows_infinity() && text != "infinity" {
            format!("{text:?} is neither a number nor \"infinity\"")
        } else if format == Some("ip") && text.parse::<IpAddr>().is_err() {
            format!("{text:?} is not an IP address")
        } else if text.is_empty() && at.schema.keyword("minLength").is_some() {
            "the value is empty".into()
        } else {
            return;
        };
        self.wrong(at, &message, String::new());
    }

    fn wrong_word(&mut self, text: &str, words: &[&str], at: At<'_>) {
        let (message, hint) = match self.catalogue.value(at.path, text) {
            Some(known) => known_message(&format!("{text:?}"), known),
            None => {
                let list = words.join("`, `");
                let message = format!("{text:?} is not one of `{list}`");
                (message, nearest(text, words.iter().copied()))
            }
        };
        self.wrong(at, &message, hint);
    }

    fn wrong_type(&mut self, value: &DeValue<'_>, at: At<'_>) {
        let schema = at.schema;
        let found = with_article(value.type_str());
        let expected = expected(schema);
        let hint = match value {
            DeValue::String(text) if is_number(text) && schema.allows("integer") => {
                "write it without quotes"
            }
            DeValue::String(text) if is_bool(text) && schema.allows("boolean") => {
                "write it without quotes"
            }
            DeValue::Table(_) if schema.is_array() => "write the header in double brackets",
            DeValue::Array(_) => "",
            _ if schema.is_array() => "put it in brackets",
            _ => "",
        };
        let message = format!("{found}, expected {expected}");
        self.wrong(at, &message, hint.into());
    }

    fn unknown_key(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        schema: Schema<'_>,
        table: &OptionPath,
        path: OptionPath,
    ) {
        let name = key.get_ref();
        let known = || self.catalogue.repeated_option(&path);
        let (message, hint) = if let Some(known) = self.catalogue.option(&path) {
            known_message(&format!("`{name}`"), known)
        } else if let Some(section) = self.global_section(&path) {
            (
                format!("`{name}` holds for the whole node, not for one host type"),
                format!("it belongs in `[{section}]`"),
            )
        } else if let Some(known) = known() {
            known_message(&format!("`{name}`"), known)
        } else {
            let ours = schema.properties().into_iter().flatten();
            let ours = ours.map(|(name, _)| name);
            let theirs = self.catalogue.names_below(table);
            (
                format!(
                    "unknown key `{}` in {}",
                    name.escape_debug(),
                    table.header()
                ),
                nearest(name, ours.chain(theirs)),
            )
        };
        self.report(key.span(), message, hint);
        self.found.unknown.push(path);
    }

    /// The section that an option belongs in which was written into the section of one host type.
    fn global_section(&self, path: &OptionPath) -> Option<String> {
        let keys = path.keys();
        let keys = self.catalogue.without_host_section(&keys)?;
        let mut schema = self.root;
        for key in keys {
            schema = schema.property(key)?;
        }
        let section = &keys[..keys.len().saturating_sub(1)];
        Some(if section.is_empty() { keys } else { section }.join("."))
    }

    fn wrong(&mut self, at: At<'_>, message: &str, hint: String) {
        let name = at.path.keys().last().copied().unwrap_or_default();
        self.report(at.span, format!("`{name}`: {message}"), hint);
        self.found.wrong.push(Wrong {
            path: at.path.clone(),
            placeholder: at.schema.placeholder(),
        });
    }

    fn report(&mut self, span: Range<usize>, message: String, hint: String) {
        let finding = Finding::at(self.source, span, message, hint);
        self.found.findings.push(finding);
    }
}

fn known_message(name: &str, known: Known) -> (String, String) {
    match known {
        Known::NotYet => (
            format!("{name} is not supported yet"),
            "take it out until it is".into(),
        ),
        Known::Moved(to) => (format!("{name} has moved"), format!("it is {to}")),
        Known::Removed(instead) => (format!("{name} is not supported"), instead.into()),
    }
}

/// Names that are less alike than this are not offered. (`mod_pnig` and `mod_ping` are 0.97 alike, `port`
/// and `proto` 0.91.)
const LIKENESS_MIN: f64 = 0.85;

/// Longer names are not compared: nothing of ours is as long.
const COMPARED_CHARS_MAX: usize = 64;

/// A hint that offers the name that is most like this one; empty if none is.
pub fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    if name.chars().count() > COMPARED_CHARS_MAX {
        return String::new();
    }
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    let alike = names.into_iter().map(|other| (likeness(other), other));
    let nearest = alike
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    nearest.map_or_else(String::new, |(_, name)| format!("did you mean `{name}`?"))
}

fn expected(schema: Schema<'_>) -> String {
    if schema.allows_infinity() {
        return "an integer or \"infinity\"".into();
    }
    let mut kinds: Vec<&str> = schema.kinds().map(toml_name).collect();
    kinds.dedup();
    let kinds: Vec<String> = kinds.into_iter().map(with_article).collect();
    kinds.join(" or ")
}

/// What TOML calls a JSON type.
fn toml_name(kind: &str) -> &str {
    match kind {
        "object" => "table",
        "number" => "float",
        other => other,
    }
}

fn with_article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

fn is_bool(text: &str) -> bool {
    text.parse::<bool>().is_ok()
}
