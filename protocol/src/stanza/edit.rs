//! Changing a few places of a text with one allocation of the exact size.
use crate::xml::Span;

/// A range of the old text, and the pieces that replace it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit<'p> {
    range: Span,
    pieces: &'p [&'p str],
}

impl<'p> Edit<'p> {
    /// Changes nothing.
    pub(crate) const NONE: Self = Self {
        range: Span {
            start: u32::MAX,
            end: u32::MAX,
        },
        pieces: &[],
    };

    pub(crate) fn new(start: u32, end: u32, pieces: &'p [&'p str]) -> Self {
        Self {
            range: Span { start, end },
            pieces,
        }
    }

    fn bytes(&self) -> usize {
        self.pieces
            .iter()
            .fold(0, |bytes: usize, piece| bytes.saturating_add(piece.len()))
    }
}

/// The new text, and where things went.
pub(crate) struct Spliced<'e> {
    text: String,
    edits: &'e [Edit<'e>],
}

/// Applies `edits`, which must not overlap, to `text`.
pub(crate) fn splice<'e>(text: &str, edits: &'e mut [Edit<'e>]) -> Spliced<'e> {
    edits.sort_unstable_by_key(|edit| edit.range.start);
    let bytes = edits.iter().fold(text.len(), |bytes, edit| {
        bytes
            .saturating_add(edit.bytes())
            .saturating_sub(edit.range.len())
    });
    let mut spliced = String::with_capacity(bytes);
    let mut done = 0;
    for edit in edits.iter().take_while(|edit| edit.range.start < u32::MAX) {
        let start = edit.range.start as usize;
        spliced.push_str(text.get(done..start).unwrap_or_default());
        for piece in edit.pieces {
            spliced.push_str(piece);
        }
        done = edit.range.end as usize;
    }
    spliced.push_str(text.get(done..).unwrap_or_default());
    debug_assert_eq!(spliced.len(), bytes, "the size is exact");
    Spliced {
        text: spliced,
        edits,
    }
}

impl Spliced<'_> {
    /// Where a character of the old text that was not replaced is now; what was inserted at its place is before it.
    pub(crate) fn moved(&self, index: u32) -> u32 {
        self.edits
            .iter()
            .take_while(|edit| edit.range.end <= index)
            .fold(index, |index, edit| {
                let grown = u32::try_from(edit.bytes()).unwrap_or(u32::MAX);
                let removed = edit.range.end.saturating_sub(edit.range.start);
                index.saturating_add(grown).saturating_sub(removed)
            })
    }

    pub(crate) fn moved_span(&self, span: Span) -> Span {
        Span {
            start: self.moved(span.start),
            end: self.moved(span.end),
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
