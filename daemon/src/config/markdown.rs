//! The page of options, generated from the schema: what a struct says of itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::schema::Schema;
use super::values::UNIT_KEYWORD;

/// The options of a configuration as a Markdown page: one table of options per table of the file, with name,
/// type, default and description.
///
/// The page has no title: whoever keeps it writes that, and that it is generated.
pub fn markdown(schema: &schemars::Schema) -> String {
    let mut page = Page::default();
    page.table("", Schema::root(schema.as_value()));
    page.text
}

/// Options that lack a description, by path. A test keeps this empty.
pub fn undocumented(schema: &schemars::Schema) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    find_undocumented("", Schema::root(schema.as_value()), &mut seen, &mut found);
    found
}

#[derive(Default)]
struct Page {
    text: String,
    /// The header under which a table was described, by its definition: each is described once.
    described: BTreeMap<*const Value, String>,
}

impl Page {
    /// Describes a table: first its own options, then each table in it under a heading of its own.
    fn table(&mut self, path: &str, schema: Schema<'_>) {
        let Some(properties) = schema.properties() else {
            return;
        };
        let (tables, options): (Vec<_>, Vec<_>) =
            properties.partition(|(_, schema)| table_in(*schema).is_some());
        if !options.is_empty() {
            let required: Vec<&str> = schema.required().collect();
            self.text
                .push_str("| Option | Type | Default | Meaning |\n|---|---|---|---|\n");
            for (key, option) in options {
                let default = match required.contains(&key) {
                    true => "required".into(),
                    false => default(option),
                };
                let meaning = meaning(option);
                self.line(&format!(
                    "| `{key}` | {} | {default} | {meaning} |",
                    kind(option)
                ));
            }
            self.text.push('\n');
        }
        for (key, schema) in tables {
            let path = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            self.section(&path, schema);
        }
    }

    fn section(&mut self, path: &str, schema: Schema<'_>) {
        let Some(found) = table_in(schema) else {
            return;
        };
        let path = format!("{path}{}", found.below);
        let header = if found.is_array {
            format!("[[{path}]]")
        } else {
            format!("[{path}]")
        };
        let depth = path.split('.').count().clamp(1, 3) + 1;
        self.line(&format!("{} `{header}`\n", "#".repeat(depth)));
        if let Some(description) = schema.text("description") {
            self.line(&format!("{}\n", description.trim()));
        }
        let has_options = found.table.properties().is_some_and(|all| all.count() > 0);
        let definition = found.table.definition();
        if let Some(first) = self.described.get(&definition).filter(|_| has_options) {
            let line = format!("The options are those of `{first}`.\n");
            self.line(&line);
        } else if has_options {
            self.described.insert(definition, header);
            self.table(&path, found.table);
        } else {
            self.line("No options.\n");
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A table that an option holds, be it by itself, as the elements of an array, or under keys of the user's
/// choice.
struct TableIn<'a> {
    table: Schema<'a>,
    is_array: bool,
    /// What the path has after the option's key.
    below: String,
}

fn table_in(schema: Schema<'_>) -> Option<TableIn<'_>> {
    if let Some(items) = schema.items() {
        let found = table_in(items)?;
        return Some(TableIn {
            is_array: true,
            ..found
        });
    }
    if let Some(values) = schema.any_property() {
        let found = table_in(values)?;
        let below = format!(".NAME{}", found.below);
        return Some(TableIn { below, ..found });
    }
    schema.is_table().then_some(TableIn {
        table: schema,
        is_array: false,
        below: String::new(),
    })
}

fn kind(schema: Schema<'_>) -> String {
    if let Some(words) = schema.words() {
        let words: Vec<String> = words
            .into_iter()
            .map(|(word, _)| format!("`\"{word}\"`"))
            .collect();
        return words.join(", ");
    }
    if let Some(items) = schema.items() {
        return format!("list of {}", kind(items));
    }
    if let Some(values) = schema.any_property() {
        return format!("table of {}", kind(values));
    }
    let mut text = String::new();
    for name in schema.kinds() {
        let separator = if text.is_empty() { "" } else { " or " };
        let name = match name {
            "string" if schema.allows_infinity() => "`\"infinity\"`",
            "object" => "table",
            name => name,
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{name}");
        if name == "integer" {
            text.push_str(&range(schema));
        }
    }
    text
}

fn range(schema: Schema<'_>) -> String {
    let unit = schema.text(UNIT_KEYWORD);
    let unit = unit.map_or_else(String::new, |unit| format!(" {unit}"));
    let (min, max) = schema.range();
    let has_min = min > 0;
    let has_max = max < i128::from(u32::MAX);
    match (has_min, has_max) {
        (_, true) => format!("{unit}, {min} to {max}"),
        (true, false) => format!("{unit}, at least {min}"),
        (false, false) => unit,
    }
}

/// The description, and that of each word that may stand there.
fn meaning(schema: Schema<'_>) -> String {
    let mut text = one_line(schema.text("description").unwrap_or_default());
    let words = schema.words().or_else(|| schema.items()?.words());
    for (word, description) in words.into_iter().flatten() {
        if !description.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, " `{word}`: {}", lower_first(&one_line(description)));
        }
    }
    text
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_lowercase);
    let is_name = text.chars().nth(1).is_some_and(char::is_uppercase);
    match first {
        Some(first) if !is_name => first.chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn default(schema: Schema<'_>) -> String {
    match schema.keyword("default") {
        None | Some(Value::Null) => "–".into(),
        Some(value) => format!("`{value}`"),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

fn find_undocumented(
    path: &str,
    schema: Schema<'_>,
    seen: &mut Vec<*const Value>,
    found: &mut Vec<String>,
) {
    if seen.contains(&schema.definition()) {
        return;
    }
    seen.push(schema.definition());
    for (key, option) in schema.properties().into_iter().flatten() {
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        if !option.is_described() {
            found.push(path.clone());
        }
        if let Some(inner) = table_in(option) {
            let path = format!("{path}{}", inner.below);
            find_undocumented(&path, inner.table, seen, found);
        }
    }
}
