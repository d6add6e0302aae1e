//! How deep a document nests, found from its tokens before anything recurses into it.
//!
//! The parser bounds brackets, and the keys of each dotted key, but not their product: eighty inline tables
//! with eighty keys each are 6,400 tables in each other, more than a thread's stack can take apart.

use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::CONFIG_DEPTH_MAX;

/// The first place that is nested deeper than [`CONFIG_DEPTH_MAX`], counting tables, arrays and the dots of
/// keys.
pub(super) fn too_deep(text: &str) -> Option<Range<usize>> {
    let mut depth = Depth::default();
    let mut is_line_start = true;
    for token in Source::new(text).lex() {
        let at_line_start = is_line_start;
        is_line_start = match token.kind() {
            TokenKind::Newline => true,
            TokenKind::Whitespace => is_line_start,
            _ => false,
        };
        depth.step(token.kind(), at_line_start);
        if depth.now > CONFIG_DEPTH_MAX {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

#[derive(Default)]
struct Depth {
    /// How deep the next value would be.
    now: usize,
    /// How deep the entries are of each bracket that is open.
    open: Vec<usize>,
    /// How deep the keys below the last header are.
    header: usize,
    in_header: bool,
}

impl Depth {
    fn step(&mut self, kind: TokenKind, at_line_start: bool) {
        match kind {
            TokenKind::LeftSquareBracket if at_line_start && self.open.is_empty() => {
                self.in_header = true;
                self.now = 1;
            }
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                self.now += 1;
                self.open.push(self.now);
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                self.open.pop();
            }
            TokenKind::Dot => self.now += 1,
            TokenKind::Newline if self.in_header => {
                self.in_header = false;
                self.open.clear();
                self.header = self.now;
            }
            TokenKind::Newline | TokenKind::Comma => {
                self.now = self.open.last().copied().unwrap_or(self.header);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `text` is accepted `levels` deep, and refused one deeper.
    fn check(text: impl Fn(usize) -> String) {
        let (good, bad) = (text(CONFIG_DEPTH_MAX), text(CONFIG_DEPTH_MAX + 1));
        assert_eq!(too_deep(&good), None, "{good}");
        assert!(too_deep(&bad).is_some(), "{bad}");
    }

    #[test]
    fn each_way_to_nest_is_counted() {
        let keys = |count: usize| vec!["a"; count].join(".");
        check(|levels| format!("{} = 1", keys(levels + 1)));
        check(|levels| format!("[{}]", keys(levels)));
        check(|levels| format!("[[{}]]\n", keys(levels - 1)));
        check(|levels| format!("a = {}", "[".repeat(levels)));
        check(|levels| format!("a = {}", "{ a = ".repeat(levels)));
        check(|levels| format!("[a.a]\nb = 1\na.a.a = {}", "[".repeat(levels - 4)));
        check(|levels| format!("a = [1, {{ b.c.d = {} }}]", "[".repeat(levels - 4)));
    }

    #[test]
    fn what_is_closed_no_longer_counts() {
        let text = "[a.b]\nc = [[1.5, 2.5], { d = 1 }] # [[[\ns = '[[['\n[[x.y]]\n".repeat(1000);
        assert_eq!(too_deep(&text), None);
        let text = "a = [\n".to_owned() + &"  [1.5, 2.5],\n".repeat(1000) + "]\n";
        assert_eq!(too_deep(&text), None);
    }
}
