//! Rules between options, which a schema cannot say: each part of a configuration has its own.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Finding;
use super::path::{OptionPath, Segment};
use super::source::Source;
use super::walk::Wrong;

/// A part of a configuration that has rules between its options.
///
/// `check` runs after the document was held against the schema and read into the structs. It must report
/// all it finds, and it must not do I/O that can block for long.
pub trait Check {
    /// Reports what is wrong with this part. Paths are relative to it.
    fn check(&self, checks: &mut Checks<'_>) {
        let _nothing_to_check = checks;
    }
}

/// Takes the findings of [`Check::check`], and knows where in the file each option stands.
pub struct Checks<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) document: &'a Spanned<DeTable<'a>>,
    /// Options whose value was refused already: what is said of them or of their default would mislead.
    pub(super) wrong: &'a [Wrong],
    pub(super) scope: OptionPath,
    /// Whether files that the configuration names are looked at.
    pub(super) looks_at_files: bool,
    pub(super) findings: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Checks<'_> {
    /// Reports that something is wrong with the option at `path`, which is relative to the part that is
    /// checked: keys with dots between them and indexes in brackets, empty for the part itself. `hint` says
    /// how to mend it.
    ///
    /// An option that is not in the file is pointed at by its table. If its value was refused already,
    /// nothing is reported.
    pub fn finding(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let finding = self.located(path, message.into(), hint.into());
        self.findings.extend(finding);
    }

    /// Reports something that stops no start and should be mended all the same. Otherwise as [`Checks::finding`].
    pub fn warning(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let message = format!("warning: {}", message.into());
        let warning = self.located(path, message, hint.into());
        self.warnings.extend(warning);
    }

    fn located(&self, path: &str, message: String, hint: String) -> Option<Finding> {
        let path = self.scope.join(path);
        if self.wrong.iter().any(|wrong| path.starts_with(&wrong.path)) {
            return None;
        }
        Some(match self.span(&path) {
            Some(span) => Finding::at(self.source, span, message, hint),
            None => Finding::in_file(message, hint),
        })
    }

    /// Whether everything at and below this path (relative) has a usable value. A rule asks for each option
    /// that it reads but does not report on: what was refused is read as some other value of its type.
    pub fn is_sound(&self, path: &str) -> bool {
        let path = self.scope.join(path);
        self.is_sound_at(&path)
    }

    /// The same for a path from the root of the file.
    pub fn is_sound_from_root(&self, path: &str) -> bool {
        self.is_sound_at(&OptionPath::default().join(path))
    }

    /// Whether the file has something at this path (relative).
    pub fn is_given(&self, path: &str) -> bool {
        let path = self.scope.join(path);
        find(self.document, &path).is_some()
    }

    /// Reports if the file that the option at `path` (relative) names cannot be opened for reading. Only
    /// where a file is loaded: a text that is parsed may be meant for another machine.
    pub fn file(&mut self, path: &str, file: &Path) {
        let _told = self.opens(path, file);
    }

    /// As [`Checks::file`]; whether the file was looked at and can be opened.
    pub fn opens(&mut self, path: &str, file: &Path) -> bool {
        if !self.looks_at_files {
            return false;
        }
        let problem = match fs::metadata(file) {
            Ok(metadata) if !metadata.is_file() => "is not a regular file".into(),
            Ok(_) => match fs::File::open(file) {
                Ok(_) => return true,
                Err(error) => format!("cannot be read: {error}"),
            },
            Err(error) => format!("cannot be read: {error}"),
        };
        let name = path.rsplit('.').next().unwrap_or_default();
        self.finding(path, format!("`{name}`: {problem}"), "");
        false
    }

    /// Checks a part that stands in the file below this key.
    pub fn part(&mut self, key: &str, part: &impl Check) {
        self.within(key, |checks| part.check(checks));
    }

    /// Checks each part of an array that stands below this key.
    pub fn each<'p, P: Check + 'p>(&mut self, key: &str, parts: impl IntoIterator<Item = &'p P>) {
        self.within(key, |checks| {
            for (index, part) in parts.into_iter().enumerate() {
                checks.within(index, |checks| part.check(checks));
            }
        });
    }

    /// Checks each part of a table, below this key, whose keys the user chose.
    pub fn entries<P: Check>(&mut self, key: &str, parts: &BTreeMap<String, P>) {
        self.within(key, |checks| {
            for (name, part) in parts {
                checks.within(name.as_str(), |checks| part.check(checks));
            }
        });
    }

    /// Runs rules for what stands below a key or an index.
    pub fn within(&mut self, step: impl Into<Segment>, rules: impl FnOnce(&mut Self)) {
        self.scope.0.push(step.into());
        rules(self);
        self.scope.0.pop();
    }

    fn is_sound_at(&self, path: &OptionPath) -> bool {
        let touches =
            |Wrong { path: wrong, .. }: &Wrong| wrong.starts_with(path) || path.starts_with(wrong);
        !self.wrong.iter().any(touches)
    }

    /// Where the option stands, or else the nearest table around it; `None` for the file as a whole.
    fn span(&self, path: &OptionPath) -> Option<Range<usize>> {
        let mut around = path.clone();
        while !around.0.is_empty() {
            if let Some(span) = find(self.document, &around) {
                return Some(span);
            }
            around.0.pop();
        }
        None
    }
}

/// The place of the value at this path: a value's own, or a table's header.
fn find(document: &Spanned<DeTable<'_>>, path: &OptionPath) -> Option<Range<usize>> {
    let (first, rest) = path.0.split_first()?;
    let Segment::Key(key) = first else {
        return None;
    };
    let mut value = document.get_ref().get(key.as_str())?;
    for segment in rest {
        value = match (segment, value.get_ref()) {
            (Segment::Key(key), DeValue::Table(table)) => table.get(key.as_str())?,
            (Segment::Index(index), DeValue::Array(array)) => array.get(*index)?,
            _ => return None,
        };
    }
    Some(value.span())
}
