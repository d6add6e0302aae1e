//! `$1`, `$2` … as MySQL wants it: `?` for each place, and for each `?` which value it takes. At compile time.
//!
//! A text in `'…'` or `"…"` stays as it is. The texts are those of [`super::statements!`], which are ASCII where it
//! matters: a `$` is never a part of another character in UTF-8.

/// What follows in a text: a byte of it as it is, or a place for a value.
enum Piece {
    Byte(u8),
    /// Index of the value, from 0.
    Value(usize),
}

/// Reads a text piece by piece.
struct Reader<'s> {
    bytes: &'s [u8],
    at: usize,
    /// The quote that ends the literal that we are in; 0 outside.
    quote: u8,
}

impl<'s> Reader<'s> {
    const fn new(sql: &'s str) -> Self {
        Self {
            bytes: sql.as_bytes(),
            at: 0,
            quote: 0,
        }
    }

    const fn digit(&self) -> Option<usize> {
        if self.at < self.bytes.len() && self.bytes[self.at].is_ascii_digit() {
            Some((self.bytes[self.at] - b'0') as usize)
        } else {
            None
        }
    }

    const fn next(&mut self) -> Option<Piece> {
        if self.at == self.bytes.len() {
            return None;
        }
        let byte = self.bytes[self.at];
        self.at += 1;
        if self.quote != 0 {
            if byte == self.quote {
                self.quote = 0;
            }
            return Some(Piece::Byte(byte));
        }
        if byte == b'\'' || byte == b'"' {
            self.quote = byte;
        }
        if byte != b'$' || self.digit().is_none() {
            assert!(byte != b'?', "values are $1, $2 and so on");
            return Some(Piece::Byte(byte));
        }
        let mut number = 0;
        while let Some(digit) = self.digit() {
            number = number * 10 + digit;
            self.at += 1;
        }
        assert!(number > 0, "values are numbered from 1");
        Some(Piece::Value(number - 1))
    }
}

/// Places for values.
pub(crate) const fn count(sql: &str) -> usize {
    let mut reader = Reader::new(sql);
    let mut count = 0;
    while let Some(piece) = reader.next() {
        if matches!(piece, Piece::Value(_)) {
            count += 1;
        }
    }
    count
}

/// Which value each place takes, from 0.
pub(crate) const fn order<const COUNT: usize>(sql: &str) -> [usize; COUNT] {
    let mut reader = Reader::new(sql);
    let (mut order, mut count) = ([0; COUNT], 0);
    while let Some(piece) = reader.next() {
        if let Piece::Value(value) = piece {
            order[count] = value;
            count += 1;
        }
    }
    order
}

/// Bytes of the text with `?`.
pub(crate) const fn length(sql: &str) -> usize {
    let mut reader = Reader::new(sql);
    let mut length = 0;
    while reader.next().is_some() {
        length += 1;
    }
    length
}

/// The text with `?`.
pub(crate) const fn text<const LENGTH: usize>(sql: &str) -> [u8; LENGTH] {
    let mut reader = Reader::new(sql);
    let (mut text, mut length) = ([0; LENGTH], 0);
    while let Some(piece) = reader.next() {
        text[length] = match piece {
            Piece::Byte(byte) => byte,
            Piece::Value(_) => b'?',
        };
        length += 1;
    }
    text
}

/// Those bytes as text.
pub(crate) const fn as_text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("only ASCII was replaced by ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! check {
        ($sql:expr, $text:expr, $order:expr) => {
            assert_eq!(as_text(&const { text::<{ length($sql) }>($sql) }), $text);
            let expected: &[usize] = &$order;
            assert_eq!(order::<{ count($sql) }>($sql), expected);
        };
    }

    #[test]
    fn each_place_is_a_question_mark_and_knows_its_value() {
        check!("SELECT 1", "SELECT 1", []);
        check!("a = $1 AND b = $2", "a = ? AND b = ?", [0, 1]);
        check!("($2, $1, $12, $1)", "(?, ?, ?, ?)", [1, 0, 11, 0]);
        check!("x='$1 ?' AND \"$2\"=$1", "x='$1 ?' AND \"$2\"=?", [0]);
        check!("'it''s $1' \u{1f9a1} $3$", "'it''s $1' \u{1f9a1} ?$", [2]);
    }
}
