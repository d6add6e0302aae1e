//! A whole document whose root stands around elements of a client's stream: the `<body/>` of XEP-0124.
use super::characters::is_space;
use super::context::{self, Context};
use super::pass::{Found, Level, Outside, Pass, Progress, Stack};
use super::{Fault, Frame, Item, Limits, STACK, State, StreamReader, tree};
use crate::{Element, StreamError};

/// Reads the document and calls `take` with each child of its root. A child that declares no namespace is one of the
/// stream's, whatever the root is. Returns the root without its children.
///
/// # Errors
/// As the reader of a stream; also if the document is not whole, or something follows it.
pub(crate) fn read_wrapper(
    bytes: &[u8],
    limits: Limits,
    mut take: impl FnMut(&Frame<'_>),
) -> Result<Element, StreamError> {
    let (root, context, mut rest) = STACK.with_borrow_mut(|stack| {
        let root = read_root(bytes, &limits, stack);
        stack.clear();
        root
    })?;
    if let Some(context) = context {
        let mut reader = StreamReader {
            state: State::Open,
            context,
            ..StreamReader::new(limits)
        };
        loop {
            match reader.next(&mut rest)? {
                Some(Item::Element(frame)) => take(&frame),
                Some(Item::Close) => break,
                Some(Item::Header(_)) | None => return Err(Fault::MALFORMED.into()),
            }
        }
    }
    if without_space(rest).is_empty() {
        Ok(root)
    } else {
        Err(Fault::MALFORMED.into())
    }
}

/// The root's start tag: the element that it would be without content, what it leaves behind for its children if it
/// may have any, and what follows it.
type Root<'b> = (Element, Option<Context>, &'b [u8]);

fn read_root<'b>(bytes: &'b [u8], limits: &Limits, stack: &mut Stack) -> Result<Root<'b>, Fault> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let mut rest = without_space(bytes);
    let mut allows_declaration = rest.len() == bytes.len();
    loop {
        let mut progress = Progress::default();
        let found = Pass {
            bytes: rest,
            limits,
            outside: Outside::with_default(""),
            level: Level::Prolog {
                allows_declaration,
                allows_empty: true,
            },
            stack,
            progress: &mut progress,
        }
        .run()?;
        let (token, after) = rest.split_at_checked(found.end()).ok_or(Fault::MALFORMED)?;
        match found {
            Found::Declaration(_) => {
                allows_declaration = false;
                rest = without_space(after);
            }
            Found::Header(end) if end > limits.element_bytes_max as usize => {
                return Err(Fault::TooBig);
            }
            Found::Header(_) => {
                let text = std::str::from_utf8(token).map_err(|_| Fault::MALFORMED)?;
                let context = context::wrapper(text, &progress.index, stack, &stack.spilled);
                let (tag, is_empty) = match text.strip_suffix("/>") {
                    Some(tag) => (tag, true),
                    None => (text.strip_suffix('>').ok_or(Fault::MALFORMED)?, false),
                };
                let alone = [tag, "/>"].concat();
                let root = tree::build(&alone, Outside::with_default(""));
                return Ok((root, (!is_empty).then_some(context), after));
            }
            Found::Element(_) | Found::Close(_) | Found::Nothing(_) => {
                return Err(Fault::MALFORMED);
            }
        }
    }
}

fn without_space(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_space(*byte));
    start.map_or(&[], |start| bytes.get(start..).unwrap_or_default())
}
