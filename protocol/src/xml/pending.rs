//! The unfinished token at the end of the input: what it is, and when it can have ended.
//!
//! A reader that looks again with each byte is quadratic. So it looks again only when the new bytes hold the one that
//! can end the token; what the bytes mean is decided by the pass alone. What can never become well-formed is refused
//! at once, whether or not its end ever comes.
use super::Fault;
use super::characters::is_space;
use super::pass::Level;
use crate::StreamCondition;

const CDATA: &[u8] = b"<![CDATA[";
const DECLARATION: &[u8] = b"<?xml";

/// Kind of an unfinished token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Too short to tell.
    Unknown,
    /// Character data: ends before `<` or `&`.
    Text,
    /// Ends with `;`.
    Reference,
    /// A start tag: ends with `>` outside of quotes.
    Tag(Quote),
    /// An end tag, which has no quotes.
    EndTag,
    /// Ends with `]]>`.
    Section,
    /// The XML declaration: ends with `?>`.
    Declaration,
}

/// In which quotes the end of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quote {
    Outside,
    Single,
    Double,
}

impl Pending {
    /// What `token` is, and whether it can have ended. `is_inside` means inside of an element of the stream's level.
    pub(crate) fn of(
        token: &[u8],
        level: Level<'_>,
        is_inside: bool,
    ) -> Result<(Self, bool), Fault> {
        let mut pending = match token {
            [] | [b'<'] => return Ok((Self::Unknown, false)),
            // A character of two or four bytes: UTF-16 or UTF-32.
            [b'<', 0, ..] if matches!(level, Level::Prolog { .. }) => {
                return Err(Fault::Condition(StreamCondition::UnsupportedEncoding));
            }
            [b'<', b'!', ..] => return bang(token, is_inside),
            [b'<', b'?', ..] => return question(token, level, is_inside),
            [b'<', b'/', ..] => Self::EndTag,
            [b'<', ..] => Self::Tag(Quote::Outside),
            [b'&', ..] => Self::Reference,
            _ => Self::Text,
        };
        let may_end = pending.advance(token, 1)?;
        Ok((pending, may_end))
    }

    /// Looks at the bytes of the token from `from` on, which are new. Not to be asked of [`Pending::Unknown`].
    pub(crate) fn advance(&mut self, token: &[u8], from: usize) -> Result<bool, Fault> {
        let new = token.get(from..).unwrap_or_default();
        match self {
            Self::Unknown => Ok(true),
            Self::Text => Ok(memchr::memchr2(b'<', b'&', new).is_some()),
            Self::Reference => Ok(memchr::memchr3(b';', b'&', b'<', new).is_some()),
            Self::Tag(quote) => advance_tag(quote, new),
            Self::EndTag => match memchr::memchr2(b'>', b'<', new) {
                Some(index) if new.get(index) == Some(&b'>') => Ok(true),
                Some(_) => Err(Fault::MALFORMED),
                None => Ok(false),
            },
            Self::Section => Ok(ends_with(token, from, b"]]", CDATA.len())),
            Self::Declaration => Ok(ends_with(token, from, b"?", DECLARATION.len())),
        }
    }
}

impl Pending {
    /// `byte` neither ends the token nor says anything of where its end may be.
    #[inline]
    pub(crate) fn is_quiet(self, byte: u8) -> bool {
        match self {
            Self::Unknown => false,
            Self::Text => !matches!(byte, b'<' | b'&'),
            Self::Reference => !matches!(byte, b';' | b'&' | b'<'),
            Self::Tag(_) => !matches!(byte, b'<' | b'>' | b'\'' | b'"'),
            Self::EndTag => !matches!(byte, b'<' | b'>'),
            Self::Section | Self::Declaration => byte != b'>',
        }
    }
}

/// A `>` at or after `from` stands behind `before`, which itself stands at or after `content`.
fn ends_with(token: &[u8], from: usize, before: &[u8], content: usize) -> bool {
    let new = token.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'>', new).any(|index| {
        token
            .get(content..from.saturating_add(index))
            .is_some_and(|read| read.ends_with(before))
    })
}

fn advance_tag(quote: &mut Quote, new: &[u8]) -> Result<bool, Fault> {
    for &byte in new {
        *quote = match (*quote, byte) {
            (_, b'<') => return Err(Fault::MALFORMED),
            (Quote::Outside, b'>') => return Ok(true),
            (Quote::Outside, b'\'') => Quote::Single,
            (Quote::Outside, b'"') => Quote::Double,
            (Quote::Single, b'\'') | (Quote::Double, b'"') => Quote::Outside,
            (quote, _) => quote,
        };
    }
    Ok(false)
}

/// `<!`: only a CDATA section is allowed, and only inside of an element.
fn bang(token: &[u8], is_inside: bool) -> Result<(Pending, bool), Fault> {
    if token.starts_with(CDATA) {
        if !is_inside {
            return Err(Fault::Condition(StreamCondition::BadFormat));
        }
        let mut pending = Pending::Section;
        let may_end = pending.advance(token, CDATA.len())?;
        return Ok((pending, may_end));
    }
    if CDATA.starts_with(token) {
        Ok((Pending::Unknown, false))
    } else {
        Err(Fault::Condition(StreamCondition::RestrictedXml))
    }
}

/// `<?`: only the XML declaration at its place.
fn question(token: &[u8], level: Level<'_>, is_inside: bool) -> Result<(Pending, bool), Fault> {
    let is_declaration = match token.strip_prefix(DECLARATION) {
        // Its name may go on.
        Some([] | [b'?']) => return Ok((Pending::Unknown, false)),
        None if DECLARATION.starts_with(token) => return Ok((Pending::Unknown, false)),
        Some([first, ..]) if is_space(*first) => true,
        Some(rest) => rest.starts_with(b"?>"),
        None => false,
    };
    if !is_declaration {
        return Err(Fault::Condition(StreamCondition::RestrictedXml));
    }
    let is_allowed = matches!(
        level,
        Level::Prolog {
            allows_declaration: true,
            ..
        }
    );
    if is_inside || !is_allowed {
        return Err(Fault::MALFORMED);
    }
    let mut pending = Pending::Declaration;
    let may_end = pending.advance(token, DECLARATION.len())?;
    Ok((pending, may_end))
}
