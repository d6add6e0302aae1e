//! What is wrong in a configuration file: where, what, and how to mend it.

use std::fmt;
use std::ops::Range;

use super::source::Source;

/// A file is told at most this many findings; the rest is only counted.
pub const FINDINGS_MAX: usize = 100;

/// The exit code of a daemon whose configuration is refused: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// All that is wrong in one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    file: String,
    findings: Vec<Finding>,
    /// How many there are beyond [`FINDINGS_MAX`].
    untold: usize,
}

impl Findings {
    pub(super) fn new(file: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| a.order().cmp(&b.order()));
        findings.dedup();
        let untold = findings.len().saturating_sub(FINDINGS_MAX);
        findings.truncate(FINDINGS_MAX);
        Self {
            file: file.into(),
            findings,
            untold,
        }
    }

    /// The findings, first line first.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// How many findings there are, those beyond [`FINDINGS_MAX`] included.
    pub fn len(&self) -> usize {
        self.findings.len() + self.untold
    }

    /// Whether nothing is wrong. The loader never returns this as an error.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            finding.write(&self.file, formatter)?;
        }
        if self.untold > 0 {
            writeln!(formatter, "{}: and {} more", self.file, self.untold)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in one line.
    pub message: String,
    /// How to mend it, or the nearest name; empty when there is nothing to say.
    pub hint: String,
    /// Where; `None` for the file as a whole.
    pub place: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line as it is shown: without secrets and control characters, cut if long.
    shown: String,
    /// Where the caret begins and ends in `shown`, in characters.
    caret: Range2,
}

/// A range that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range2 {
    start: usize,
    end: usize,
}

impl Finding {
    pub(super) fn in_file(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: one_line(message.into()),
            hint: one_line(hint.into()),
            place: None,
        }
    }

    pub(super) fn at(
        source: &Source<'_>,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            message: one_line(message.into()),
            hint: one_line(hint.into()),
            place: Some(Place::new(source, span)),
        }
    }

    /// The line, from 1, that this is about.
    pub(super) fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    fn order(&self) -> (Option<&Place>, &str, &str) {
        (self.place.as_ref(), &self.message, &self.hint)
    }

    fn write(&self, file: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            message,
            hint,
            place,
        } = self;
        let Some(place) = place else {
            let colon = if hint.is_empty() { "" } else { ": " };
            return writeln!(formatter, "{file}: {message}{colon}{hint}");
        };
        let Place {
            line,
            column,
            shown,
            caret,
        } = place;
        let indent = " ".repeat(line.to_string().len());
        let before = " ".repeat(caret.start);
        let carets = "^".repeat(caret.end.saturating_sub(caret.start).max(1));
        let space = if hint.is_empty() { "" } else { " " };
        writeln!(formatter, "{file}:{line}:{column}: {message}")?;
        writeln!(formatter, " {indent} |")?;
        writeln!(formatter, " {line} | {shown}")?;
        writeln!(formatter, " {indent} | {before}{carets}{space}{hint}")
    }
}

/// A message or a hint has at most this many characters: they may quote names of any length.
const MESSAGE_CHARS_MAX: usize = 400;

fn one_line(text: String) -> String {
    if text.len() <= MESSAGE_CHARS_MAX && !text.contains(char::is_control) {
        return text;
    }
    let mut line: String = text.chars().take(MESSAGE_CHARS_MAX).map(visible).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

/// A shown line has at most this many characters.
const SHOWN_CHARS_MAX: usize = 120;

impl Place {
    fn new(source: &Source<'_>, span: Range<usize>) -> Self {
        let (index, line) = source.line_at(span.start);
        let chars = |bytes: usize| {
            let bytes = line.text.floor_char_boundary(bytes);
            line.text[..bytes].chars().count()
        };
        let start = chars(span.start.saturating_sub(line.start));
        let end = chars(span.end.saturating_sub(line.start)).max(start + 1);

        let mut shown: Vec<char> = line.text.chars().map(visible).collect();
        source.hide_secrets(index, &mut shown);
        let cut = start.saturating_sub(SHOWN_CHARS_MAX / 2);
        let cut = if shown.len() > SHOWN_CHARS_MAX {
            cut
        } else {
            0
        };
        let shown: String = shown.iter().skip(cut).take(SHOWN_CHARS_MAX).collect();
        let width = shown.chars().count().max(1);
        Self {
            line: index + 1,
            column: start + 1,
            caret: Range2 {
                start: start - cut,
                end: (end - cut).min(width.max(start - cut + 1)),
            },
            shown: shown.trim_end().to_owned(),
        }
    }
}

/// A tab takes one column, so that the caret stands below what it points at; what would steer a terminal is
/// replaced.
fn visible(char: char) -> char {
    match char {
        '\t' => ' ',
        char if char.is_control() => char::REPLACEMENT_CHARACTER,
        char => char,
    }
}
