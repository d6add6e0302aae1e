//! Loading a configuration: one TOML file into one checked struct, or everything that is wrong with it at
//! once.
//!
//! The file is held against the schema of the struct first (so every unknown key, wrong type and number out
//! of range is found, with its line and the nearest valid name), then read by serde, then by the rules that
//! the parts of the struct have between their options ([`Check`]).

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

mod catalogue;
mod depth;
mod finding;
mod markdown;
mod path;
mod rules;
mod schema;
mod source;
mod values;
mod walk;

pub use catalogue::{Catalogue, Entry, Known};
pub use finding::{EXIT_CONFIG, FINDINGS_MAX, Finding, Findings, Place};
pub use markdown::{markdown, undocumented};
pub use path::Segment;
pub use rules::{Check, Checks};
pub use values::{Bytes, Millis, OrInfinity, Seconds};
pub use walk::nearest;

use path::OptionPath;
use schema::Schema;
use source::Source;
use walk::{Found, Walk, Wrong};

/// A configuration file has at most this many bytes.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Tables, arrays and the dots of keys are nested at most this deep in each other.
pub const CONFIG_DEPTH_MAX: usize = 80;

/// Reads the configuration file at `path`.
///
/// # Errors
/// Everything that is wrong with it: it cannot be read, is no regular file, too long or not UTF-8; all that
/// [`parse`] finds; a secret in a file that others may read (mode above 0640); files that it names and
/// that cannot be read.
pub fn load<T>(path: &Path, catalogue: &Catalogue) -> Result<T, Findings>
where
    T: DeserializeOwned + JsonSchema + Check,
{
    review(path, catalogue, |_, _| {}).outcome
}

/// Reads the configuration file at `path` as [`load`] does, and what stops no start too. `rules` are run after those of
/// the configuration itself: for what depends on the machine.
pub fn review<T>(
    path: &Path,
    catalogue: &Catalogue,
    rules: impl FnOnce(&T, &mut Checks<'_>),
) -> Review<T>
where
    T: DeserializeOwned + JsonSchema + Check,
{
    let name = path.display().to_string();
    match read(path) {
        Ok(file) => interpret_text(&file.text, &name, catalogue, Some(file.mode), rules),
        Err(finding) => Review::refused(&name, vec![finding]),
    }
}

/// What there is to say of a file.
#[derive(Debug)]
pub struct Review<T> {
    /// The configuration, or why there is none.
    pub outcome: Result<T, Findings>,
    /// What stops no start and should be mended; may be empty.
    pub warnings: Findings,
}

impl<T> Review<T> {
    fn refused(file_name: &str, findings: Vec<Finding>) -> Self {
        Self {
            outcome: Err(Findings::new(file_name, findings)),
            warnings: Findings::new(file_name, Vec::new()),
        }
    }
}

/// Reads a configuration from `text`; `file_name` is what the findings call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse<T>(text: &str, file_name: &str, catalogue: &Catalogue) -> Result<T, Findings>
where
    T: DeserializeOwned + JsonSchema + Check,
{
    interpret_text(text, file_name, catalogue, None, |_, _| {}).outcome
}

struct ReadFile {
    text: String,
    mode: u32,
}

fn read(path: &Path) -> Result<ReadFile, Finding> {
    let unreadable = |error| Finding::in_file(format!("cannot be read: {error}"), "");
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Finding::in_file("is not a regular file", ""));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    let limit = u64::try_from(CONFIG_BYTES_MAX).expect("a small constant") + 1;
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Finding::in_file(
            format!("line {line} is not UTF-8"),
            "save the file as UTF-8",
        )
    })?;
    Ok(ReadFile { text, mode })
}

/// `mode` is that of the file that the text comes from, if it comes from one.
fn interpret_text<T>(
    text: &str,
    file_name: &str,
    catalogue: &Catalogue,
    mode: Option<u32>,
    rules: impl FnOnce(&T, &mut Checks<'_>),
) -> Review<T>
where
    T: DeserializeOwned + JsonSchema + Check,
{
    if text.len() > CONFIG_BYTES_MAX {
        let message = format!("is longer than {CONFIG_BYTES_MAX} bytes");
        return Review::refused(file_name, vec![Finding::in_file(message, "")]);
    }
    let source = Source::new(text);
    if let Some(span) = depth::too_deep(text) {
        let message = format!("nested deeper than {CONFIG_DEPTH_MAX}");
        let finding = Finding::at(&source, span, message, "");
        return Review::refused(file_name, vec![finding]);
    }
    let schema = schemars::schema_for!(T);
    let (document, errors) = DeTable::parse_recoverable(text);
    let errors: Vec<Finding> = errors
        .iter()
        .map(|error| syntax_finding(&source, error))
        .collect();
    let is_cut = !errors.is_empty();
    let mut walk = Walk {
        source: &source,
        catalogue,
        root: Schema::root(schema.as_value()),
        is_cut,
        found: Found::default(),
    };
    walk.table(document.get_ref(), 0..0, walk.root, &OptionPath::default());
    let mut found = walk.found;
    // What could not be read may look like something else that is wrong.
    let is_readable = |finding: &Finding| errors.iter().all(|error| error.line() != finding.line());
    found.findings.retain(is_readable);
    found.findings.extend(errors);
    found
        .findings
        .extend(open_secrets(&source, &found.secrets, mode.unwrap_or(0)));

    // What seems to be missing may stand in the part that could not be read.
    let config = if is_cut {
        None
    } else {
        interpret::<T>(&source, &document, mode.is_some(), rules, &mut found)
    };
    let outcome = match config {
        Some(config) if found.findings.is_empty() => Ok(config),
        _ => Err(Findings::new(file_name, found.findings)),
    };
    Review {
        outcome,
        warnings: Findings::new(file_name, found.warnings),
    }
}

fn syntax_finding(source: &Source<'_>, error: &toml::de::Error) -> Finding {
    let (message, hint) = match error.message() {
        "duplicate key" => ("this key stands twice in its table", "remove one of them"),
        message => (message, ""),
    };
    let span = error.span().unwrap_or(0..0);
    Finding::at(source, span, message, hint)
}

/// A file that others may read must not hold a secret.
fn open_secrets(source: &Source<'_>, secrets: &[Range<usize>], mode: u32) -> Option<Finding> {
    let first = secrets.iter().min_by_key(|span| span.start)?;
    crate::secret::is_mode_open(mode).then(|| {
        let message = format!("this secret stands in a file with mode {mode:04o}");
        let hint = "chmod 0640 or less, or put it in a file of its own";
        Finding::at(source, first.clone(), message, hint)
    })
}

/// Reads the document into the structs, without the options that were refused already, and runs the rules.
/// `None` if that cannot be done; then there is a finding, from here or from before.
fn interpret<T>(
    source: &Source<'_>,
    document: &Spanned<DeTable<'_>>,
    looks_at_files: bool,
    rules: impl FnOnce(&T, &mut Checks<'_>),
    found: &mut Found,
) -> Option<T>
where
    T: DeserializeOwned + Check,
{
    let mut usable = document.clone();
    for path in &found.unknown {
        set(usable.get_mut(), &path.0, "");
    }
    for Wrong { path, placeholder } in &found.wrong {
        set(usable.get_mut(), &path.0, placeholder);
    }
    let config = match T::deserialize(Deserializer::from(usable)) {
        Ok(config) => config,
        // A missing key or the like that is told already.
        Err(_) if !found.findings.is_empty() => return None,
        Err(error) => {
            found.findings.push(serde_finding(source, &error));
            return None;
        }
    };
    let mut checks = Checks {
        source,
        document,
        wrong: &found.wrong,
        scope: OptionPath::default(),
        looks_at_files,
        findings: Vec::new(),
        warnings: Vec::new(),
    };
    config.check(&mut checks);
    rules(&config, &mut checks);
    found.findings.append(&mut checks.findings);
    found.warnings.append(&mut checks.warnings);
    Some(config)
}

fn serde_finding(source: &Source<'_>, error: &toml::de::Error) -> Finding {
    match error.span() {
        Some(span) => Finding::at(source, span, error.message(), ""),
        None => Finding::in_file(error.message(), ""),
    }
}

/// Gives an option another value, or takes it out if that is empty.
fn set<'t>(table: &mut DeTable<'t>, path: &[Segment], toml: &'t str) {
    let [Segment::Key(key), rest @ ..] = path else {
        return;
    };
    if !rest.is_empty() {
        if let Some(value) = table.get_mut(key.as_str()) {
            set_below(value.get_mut(), rest, toml);
        }
    } else if let Some(value) = parsed(toml) {
        let key = Cow::Owned(key.clone());
        table.insert(Spanned::new(0..0, key), Spanned::new(0..0, value));
    } else {
        table.remove(key.as_str());
    }
}

fn set_below<'t>(value: &mut DeValue<'t>, path: &[Segment], toml: &'t str) {
    match (value, path) {
        (DeValue::Table(table), [Segment::Key(_), ..]) => set(table, path, toml),
        (DeValue::Array(array), [Segment::Index(index), rest @ ..]) => {
            let Some(item) = array.get_mut(*index) else {
                return;
            };
            if !rest.is_empty() {
                set_below(item.get_mut(), rest, toml);
            } else if let Some(value) = parsed(toml) {
                *item = Spanned::new(0..0, value);
            }
        }
        _ => {}
    }
}

fn parsed(toml: &str) -> Option<DeValue<'_>> {
    DeValue::parse(toml).ok().map(Spanned::into_inner)
}

#[cfg(test)]
mod tests;
