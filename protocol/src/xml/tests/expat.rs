//! The oracle: expat, through Python's binding to it, in one process for many documents.
use std::io::Write;
use std::process::{Command, Stdio};

use super::hex_of;

/// Reads documents as lines of hexadecimal digits and writes for each a line: `error`, or the children of its root
/// as `canonical` writes them.
const SCRIPT: &str = r##"
import sys, xml.parsers.expat as expat

def digits(text):
    return text.encode("utf-8").hex()

def name(raw):
    ns, _, local = raw.rpartition("\x01")
    return digits(ns) + ":" + digits(local)

def children(document):
    out, text, depth = [], [], 0
    def flush():
        if text and depth > 1:
            out.append("#" + digits("".join(text)))
        text.clear()
    def start(raw, attributes):
        nonlocal depth
        flush()
        depth += 1
        if depth > 1:
            pairs = sorted("@%s=%s" % (name(key), digits(value)) for key, value in attributes.items())
            out.append((" <" if depth == 2 else "<") + name(raw) + "".join(pairs))
    def end(raw):
        nonlocal depth
        flush()
        if depth > 1:
            out.append(">")
        depth -= 1
    parser = expat.ParserCreate(None, "\x01")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(document, True)
    except expat.ExpatError:
        return "error"
    return "".join(out).strip()

for line in sys.stdin.read().split("\n")[:-1]:
    print(children(bytes.fromhex(line)))
"##;

/// For each document the children of its root, `None` if expat finds it not well-formed.
pub(super) fn children(documents: &[Vec<u8>]) -> Vec<Option<Vec<String>>> {
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let input: String = documents
        .iter()
        .map(|document| hex_of(document) + "\n")
        .collect();
    // The script reads all before it writes, so neither side waits for the other.
    python
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let trees: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            (line != "error").then(|| {
                line.split(' ')
                    .filter(|tree| !tree.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
        })
        .collect();
    assert_eq!(trees.len(), documents.len());
    trees
}
