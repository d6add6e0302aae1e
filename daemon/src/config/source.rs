//! The text of a configuration file: its lines, and which of them hold secrets.

/// The text and where its lines begin.
pub(super) struct Source<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

/// One line without its end.
pub(super) struct Line<'a> {
    pub(super) start: usize,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(index, _)| index + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// The line, and its index from 0, that holds the byte at `offset`.
    pub(super) fn line_at(&self, offset: usize) -> (usize, Line<'a>) {
        let after = self.line_starts.partition_point(|start| *start <= offset);
        let index = after.saturating_sub(1);
        (index, self.line(index))
    }

    fn line(&self, index: usize) -> Line<'a> {
        let start = self.line_starts.get(index).copied().unwrap_or(0);
        let next = self.line_starts.get(index + 1).copied();
        let text = &self.text[start..next.unwrap_or(self.text.len())];
        Line {
            start,
            text: text.trim_end_matches(['\n', '\r']),
        }
    }

    /// Replaces the values of secrets in a line that is about to be shown, character by character.
    ///
    /// It works on the text and not on the parsed document, since the line may be one that cannot be parsed
    /// and the key may be misspelt: anything after a key that looks like that of a secret is hidden.
    pub(super) fn hide_secrets(&self, index: usize, shown: &mut [char]) {
        let line = self.line(index).text;
        let mut hide_from = self.is_inside_secret(index).then_some(0);
        for (position, _) in line.match_indices('=') {
            let key = key_before(&line[..position]);
            if is_secret_key(key) {
                let hidden = line[..=position].chars().count();
                hide_from = Some(hide_from.map_or(hidden, |from: usize| from.min(hidden)));
                break;
            }
        }
        let Some(from) = hide_from else { return };
        for char in shown.iter_mut().skip(from).filter(|char| **char != ' ') {
            *char = '*';
        }
    }

    /// Whether the line continues a multi-line string that is a secret: going up, the first line with triple
    /// quotes opens one after the key of a secret.
    fn is_inside_secret(&self, index: usize) -> bool {
        let quotes = |text: &str| text.matches("\"\"\"").count() + text.matches("'''").count();
        (0..index)
            .rev()
            .take(CONTINUED_LINES_MAX)
            .map(|above| self.line(above).text)
            .find(|text| quotes(text) > 0)
            .and_then(|text| text.split_once('='))
            .is_some_and(|(key, value)| is_secret_key(key_before(key)) && quotes(value) == 1)
    }
}

/// How far up the beginning of a multi-line secret is looked for.
const CONTINUED_LINES_MAX: usize = 200;

/// The last key of what stands before an equals sign: `b` of `{ a = 1, b`.
fn key_before(text: &str) -> &str {
    let end = text.trim_end().trim_end_matches(['"', '\'']);
    let start = end.rfind(|char: char| !(char.is_alphanumeric() || "_-".contains(char)));
    &end[start.map_or(0, |start| start + 1)..]
}

/// Whether a key is, or is nearly, that of a secret. `password_file` and the like name a file.
fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    if key.ends_with("_file") || key.len() > 64 {
        return false;
    }
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || key
            .split(['_', '-'])
            .any(|part| SECRET_WORDS.iter().any(|word| is_near(part, word)))
}

fn is_near(part: &str, word: &str) -> bool {
    part.len() >= 4 && strsim::damerau_levenshtein(part, word) <= 2
}

/// Words in the keys of secrets.
const SECRET_WORDS: [&str; 6] = [
    "password",
    "passphrase",
    "secret",
    "api_key",
    "access_key",
    "basic_auth",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, index: usize) -> String {
        let source = Source::new(text);
        let mut shown: Vec<char> = source.line(index).text.chars().collect();
        source.hide_secrets(index, &mut shown);
        shown.iter().collect()
    }

    #[test]
    fn values_of_secrets_are_hidden() {
        let rows = [
            ("port = 5222", "port = 5222"),
            ("password = \"abc d\"", "password = **** **"),
            ("pasword = 7", "pasword = *"),
            ("db-passwort = 'x'", "db-passwort = ***"),
            ("password_file = \"/etc/p\"", "password_file = \"/etc/p\""),
            (
                "s3 = { id = 1, secret_access_key = 'x' }",
                "s3 = { id = 1, secret_access_key = *** *",
            ),
            ("\"password\" = 'x'", "\"password\" = ***"),
            ("shared = 1", "shared = 1"),
        ];
        for (line, expected) in rows {
            assert_eq!(shown(line, 0), expected);
        }
    }

    #[test]
    fn lines_inside_a_secret_are_hidden() {
        let text = "a = 1\npassword = \"\"\"\nabc = \\q\nxyz\n\"\"\"\n";
        assert_eq!(shown(text, 2), "*** * **");
        assert_eq!(shown(text, 3), "***");
        for after in ["port = 1", "[section]", "\"\"\""] {
            let text = format!("password = \"x\"\n{after}\n");
            assert_eq!(shown(&text, 1), after);
        }
        assert_eq!(shown(&format!("{text}b = 2"), 5), "b = 2");
    }

    #[test]
    fn lines_are_found_by_offset() {
        let source = Source::new("a\r\nbc\n\nd");
        let row = |offset| {
            let (index, line) = source.line_at(offset);
            (index, line.start, line.text)
        };
        assert_eq!(row(0), (0, 0, "a"));
        assert_eq!(row(2), (0, 0, "a"));
        assert_eq!(row(3), (1, 3, "bc"));
        assert_eq!(row(6), (2, 6, ""));
        assert_eq!(row(8), (3, 7, "d"));
        assert_eq!(row(100), (3, 7, "d"));
        assert_eq!(Source::new("").line_at(0).1.text, "");
    }
}
