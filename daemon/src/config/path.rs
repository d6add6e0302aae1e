//! Where an option stands: `listen.c2s[0].tls.certfile`.

use std::fmt;

/// One step from a table or an array to what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// The value of a key in a table.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The steps from the document's root to an option.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct OptionPath(pub(super) Vec<Segment>);

impl OptionPath {
    /// This path and the steps that `relative` spells: keys with dots between them, indexes in brackets.
    /// A key that has a dot itself is pushed as a [`Segment`].
    pub(super) fn join(&self, relative: &str) -> Self {
        let mut joined = self.clone();
        for part in relative.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            let key = pieces.next().unwrap_or_default();
            if !key.is_empty() {
                joined.0.push(key.into());
            }
            for index in pieces {
                let index = index.trim_end_matches(']').parse();
                joined
                    .0
                    .push(Segment::Index(index.expect("an index in brackets")));
            }
        }
        joined
    }

    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The keys without the indexes: what the catalogue and the schema know.
    pub(super) fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::with_capacity(self.0.len());
        for segment in &self.0 {
            if let Segment::Key(key) = segment {
                keys.push(key.as_str());
            }
        }
        keys
    }

    /// The header of the table that this is the path of: `[[listen.c2s]]`, `[general]`.
    pub(super) fn header(&self) -> String {
        match self.0.last() {
            None => "the file".into(),
            Some(Segment::Index(_)) => format!("`[[{}]]`", self.keys().join(".")),
            Some(Segment::Key(_)) => format!("`[{}]`", self.keys().join(".")),
        }
    }
}

impl fmt::Display for OptionPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => write!(formatter, "{key}")?,
                Segment::Key(key) => write!(formatter, ".{key}")?,
                Segment::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in ["listen.c2s[0].tls.certfile", "a", "", "a[1][2].b"] {
            assert_eq!(OptionPath::default().join(text).to_string(), text);
        }
        let path = OptionPath::default().join("listen.c2s[3]");
        assert_eq!(path.header(), "`[[listen.c2s]]`");
        assert_eq!(path.join("tls").header(), "`[listen.c2s.tls]`");
        assert_eq!(path.keys(), ["listen", "c2s"]);
        assert!(path.join("tls").starts_with(&path));
        assert!(!path.starts_with(&path.join("tls")));
    }
}
