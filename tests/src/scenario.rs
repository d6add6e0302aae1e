//! The language of scenarios, and its parser.
//!
//! ```text
//! # XEP-0199: XMPP Ping.                          the first line names what the file is about
//!
//! scenario the server answers a ping              one test: a server of its own, with the accounts of its clients
//! client romeo romeo@localhost/orchard            name, address, and optionally the way, as in `over tls`
//!
//! romeo connects
//! romeo sends:
//!   <iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>
//! romeo receives:
//!   <iq type='result' id='1' from='localhost'/>
//! ```
//!
//! What can stand in a line:
//!
//! | Line | Means |
//! |---|---|
//! | `client NAME JID [over WAY] [without account]` | a client; a bare JID lets the server choose the resource; a way is `starttls`, `tls`, `websocket` or `wss` |
//! | `examples:` and a table | the scenario is played once per row; `{column}` stands for the row's text everywhere |
//! | `with config:` and indented TOML | added to the server's configuration |
//! | `with listener:` and indented TOML | added to each of the server's ports for clients |
//! | `not on PEER: reason` | the scenario asserts a choice of ours that this peer made otherwise |
//! | `A and B are friends` | both see each other's presence (subscription `both`) before the scenario begins |
//! | `NAME connects` | connects, logs in and binds; sends nothing more |
//! | `NAME logs in` | the same without bind |
//! | `NAME comes online` | connects, asks for the roster, sends presence and takes whatever comes of it |
//! | `NAME dials` | TCP, and nothing else; `NAME dials the tls port` does the handshake too |
//! | `NAME dials the websocket` | TCP and the opening handshake of a WebSocket; each element is a message from then on |
//! | `NAME dials the starttls port` | TCP, where STARTTLS is required |
//! | `NAME starts tls` | the handshake |
//! | `NAME opens a stream` | sends a header, takes header and features |
//! | `NAME authenticates` | SASL on the open stream; the caller opens the next one |
//! | `NAME authenticates by MECHANISM` | the same with this mechanism of the SCRAM family |
//! | `NAME binds` | binds the resource of its JID |
//! | `NAME resumes as JID` | from here on the client counts as bound: it has just read `<resumed/>` |
//! | `NAME sends:` and indented text | sent as it is, without the line breaks around it |
//! | `NAME sends bytes: "…"` | sent with the escapes `\x00`, `\n`, `\r`, `\t`, `\"`, `\\` |
//! | `NAME receives:` and indented XML | these elements come next, in this order |
//! | `NAME receives in any order:` | the same number of elements, in any order |
//! | `NAME receives header:` and a start tag | a stream header with these attributes |
//! | `NAME receives nothing` | nothing waits, and nothing is under way: all clients have asked the server since |
//! | `NAME ignores what came` | forgets what came so far |
//! | `NAME is acknowledged up to N` | asks with `<r/>` until the answer is `h='N'` |
//! | `NAME is closed` | the server ends the stream and then the connection; nothing else comes |
//! | `NAME is cut off` | the server ends the connection; no stanza comes before |
//! | `NAME disconnects` | ends the stream as it should be |
//! | `NAME cuts` | the connection is reset without a word |
//!
//! At the end of a scenario each client that is still there has received nothing that was not expected. Requests and
//! answers of XEP-0198 (`<r/>`, `<a/>`) come when the server likes, so they are skipped where they are not expected.
//! Patterns are described in [`crate::expect`].
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use protocol::{Element, Jid};

use crate::client::{Account, Security};
use crate::expect;

/// Every client's password.
pub const PASSWORD: &str = "secret";

/// One test.
#[derive(Debug, Default)]
pub struct Scenario {
    /// What is claimed, as written.
    pub name: String,
    /// Line of the file.
    pub line: usize,
    /// Clients by name.
    pub clients: BTreeMap<String, ClientSpec>,
    /// TOML to be added to the server's configuration.
    pub config: String,
    /// TOML to be added to each listener.
    pub listener: String,
    /// Peers on which it is not played.
    pub skipped_peers: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Nothing in it depends on how its clients connect: they speak of the stream itself nowhere, and the server's
    /// ports have their usual options.
    pub fn takes_any_transport(&self) -> bool {
        let is_usual = |client: &ClientSpec| client.security == Security::None;
        let takes = |step: &Step| match &step.action {
            Action::Befriend(..) => true,
            Action::Client(_, verb) => match verb {
                Verb::Dial
                | Verb::DialTls
                | Verb::DialWebSocket
                | Verb::DialStartTls
                | Verb::StartTls
                | Verb::ReceiveHeader(_)
                | Verb::SendBytes(_) => false,
                Verb::Send(text) => is_balanced(text),
                _ => true,
            },
        };
        self.listener.is_empty()
            && self.clients.values().all(is_usual)
            && self.steps.iter().all(takes)
    }

    /// All clients connect like that.
    pub fn use_transport(&mut self, security: Security) {
        for client in self.clients.values_mut() {
            client.security = security;
        }
    }
}

/// Elements with white space between them at most. What is to be filled in counts as text.
fn is_balanced(text: &str) -> bool {
    let wrapped = format!("<x xmlns='jabber:client' xmlns:stream='urn:x'>{text}</x>");
    let is_prefixed = text.contains("<stream:");
    !is_prefixed
        && Element::parse(wrapped.as_bytes(), "").is_ok_and(|all| {
            let mut nodes = all.nodes().iter();
            nodes.all(|node| match node {
                protocol::element::Node::Element(_) => true,
                protocol::element::Node::Text(text) => text.trim().is_empty(),
            })
        })
}

/// A declared client.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Who it logs in as.
    pub account: Account,
    /// The resource it asks for.
    pub resource: Option<String>,
    /// How it connects.
    pub security: Security,
    /// The account exists.
    pub has_account: bool,
}

/// One line and its block.
#[derive(Debug)]
pub struct Step {
    /// Line of the file.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is to be done.
    pub action: Action,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Two accounts subscribe to each other.
    Befriend(String, String),
    /// A client does or expects something.
    Client(String, Verb),
}

/// What a client does or expects.
#[derive(Debug)]
#[allow(missing_docs, reason = "the table above says what each means")]
pub enum Verb {
    Connect,
    LogIn,
    ComeOnline,
    Dial,
    DialTls,
    DialWebSocket,
    DialStartTls,
    StartTls,
    OpenStream,
    Authenticate,
    AuthenticateBy(String),
    Bind,
    Resume(String),
    Send(String),
    SendBytes(Vec<u8>),
    Receive(Vec<Element>),
    ReceiveInAnyOrder(Vec<Element>),
    ReceiveHeader(Box<Element>),
    ReceiveNothing,
    Ignore,
    Acknowledged(u32),
    Closed,
    CutOff,
    Disconnect,
    Cut,
}

/// Reads a whole file.
pub fn parse(text: &str) -> Result<Vec<Scenario>> {
    ensure!(
        text.starts_with("# "),
        "the first line says what the file is about (`# XEP-…`)"
    );
    let lines: Vec<Line> = text
        .lines()
        .zip(1..)
        .map(|(text, number)| Line {
            number,
            text: text.to_owned(),
        })
        .collect();
    let mut parts = split_before(&lines, "scenario ").into_iter();
    let prologue = parts.next().unwrap_or_default();
    if let Some(line) = prologue.iter().find(|line| !is_blank(&line.text)) {
        bail!("line {}: stands before the first `scenario`", line.number);
    }
    let mut scenarios = Vec::new();
    for part in parts {
        for lines in expand_examples(part)? {
            scenarios.push(parse_scenario(&lines)?);
        }
    }
    Ok(scenarios)
}

#[derive(Clone)]
struct Line {
    number: usize,
    text: String,
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// The lines up to the first that begins with `start`, then one part from each such line to the next.
fn split_before<'a>(lines: &'a [Line], start: &str) -> Vec<&'a [Line]> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(
        lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.text.starts_with(start))
            .map(|(index, _)| index),
    );
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &lines[*start..end])
        .collect()
}

/// One copy of the scenario per row of its table, or the scenario itself if it has none.
fn expand_examples(lines: &[Line]) -> Result<Vec<Vec<Line>>> {
    let Some(start) = lines.iter().position(|line| line.text == "examples:") else {
        return Ok(vec![lines.to_vec()]);
    };
    let count = lines[start + 1..]
        .iter()
        .take_while(|line| line.text.starts_with(' '))
        .count();
    let (rows, behind) = lines[start + 1..].split_at(count);
    let cells = |line: &Line| -> Vec<String> {
        let row = line
            .text
            .trim()
            .trim_start_matches('|')
            .trim_end_matches('|');
        row.split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let Some((head, rows)) = rows.split_first() else {
        bail!("line {}: the table is missing", lines[start].number)
    };
    let columns = cells(head);
    ensure!(
        !rows.is_empty(),
        "line {}: a table without rows",
        head.number
    );
    let mut copies = Vec::new();
    for row in rows {
        let values = cells(row);
        ensure!(
            values.len() == columns.len(),
            "line {}: {} cells, {} columns",
            row.number,
            values.len(),
            columns.len()
        );
        let mut copy: Vec<Line> = lines[..start].iter().chain(behind).cloned().collect();
        for line in &mut copy {
            for (column, value) in columns.iter().zip(&values) {
                line.text = line.text.replace(&format!("{{{column}}}"), value);
            }
        }
        copies.push(copy);
    }
    Ok(copies)
}

fn parse_scenario(lines: &[Line]) -> Result<Scenario> {
    let mut scenario = Scenario::default();
    let mut lines = lines.iter().peekable();
    while let Some(Line { number, text }) = lines.next() {
        if is_blank(text) {
            continue;
        }
        if let Some(name) = text.strip_prefix("scenario ") {
            name.trim().clone_into(&mut scenario.name);
            scenario.line = *number;
            continue;
        }
        let mut block = String::new();
        while let Some(more) =
            lines.next_if(|next| next.text.starts_with(' ') || next.text.is_empty())
        {
            block.push_str(&more.text);
            block.push('\n');
        }
        add_line(&mut scenario, *number, text.trim_end(), &block)
            .with_context(|| format!("line {number}: `{text}`"))?;
    }
    ensure!(
        !scenario.steps.is_empty(),
        "line {}: a scenario without a step",
        scenario.line
    );
    Ok(scenario)
}

fn add_line(scenario: &mut Scenario, number: usize, line: &str, block: &str) -> Result<()> {
    let wants_block = line.ends_with(':');
    ensure!(
        wants_block || block.trim().is_empty(),
        "an indented block behind a line that takes none"
    );
    ensure!(
        !wants_block || !block.trim().is_empty(),
        "the indented block is missing"
    );
    if let Some(declaration) = line.strip_prefix("client ") {
        let (name, client) = parse_client(declaration)?;
        ensure!(
            scenario.clients.insert(name.to_owned(), client).is_none(),
            "the client {name} is declared twice"
        );
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("not on ") {
        let (peer, reason) = rest.split_once(": ").context("`not on PEER: reason`")?;
        ensure!(!reason.trim().is_empty(), "a reason is needed");
        scenario.skipped_peers.push(peer.to_owned());
        return Ok(());
    }
    if line == "with config:" {
        scenario.config.push_str(&unindented(block));
        return Ok(());
    }
    if line == "with listener:" {
        scenario.listener.push_str(&unindented(block));
        return Ok(());
    }
    let (name, rest) = line.split_once(' ').context("not a line of a scenario")?;
    ensure!(
        scenario.clients.contains_key(name),
        "no client {name} is declared"
    );
    let action = match rest
        .strip_prefix("and ")
        .and_then(|rest| rest.strip_suffix(" are friends"))
    {
        Some(other) => {
            ensure!(
                scenario.clients.contains_key(other),
                "no client {other} is declared"
            );
            Action::Befriend(name.to_owned(), other.to_owned())
        }
        None => Action::Client(name.to_owned(), parse_verb(rest, block)?),
    };
    scenario.steps.push(Step {
        line: number,
        text: line.to_owned(),
        action,
    });
    Ok(())
}

fn parse_client(declaration: &str) -> Result<(&str, ClientSpec)> {
    let mut words = declaration.split_whitespace();
    let (Some(name), Some(address)) = (words.next(), words.next()) else {
        bail!("`client NAME JID`")
    };
    let jid = Jid::parse(address).with_context(|| format!("{address} is no address"))?;
    let local = jid
        .local()
        .with_context(|| format!("{address} has no local part"))?
        .to_owned();
    let account = Account {
        local,
        domain: jid.domain().to_owned(),
        password: PASSWORD.to_owned(),
    };
    let resource = jid.resource().map(str::to_owned);
    let mut client = ClientSpec {
        account,
        resource,
        security: Security::None,
        has_account: true,
    };
    match words.collect::<Vec<_>>().as_slice() {
        [] => {}
        ["over", "starttls"] => client.security = Security::StartTls,
        ["over", "tls"] => client.security = Security::DirectTls,
        ["over", "websocket"] => client.security = Security::WebSocket,
        ["over", "wss"] => client.security = Security::SecureWebSocket,
        ["without", "account"] => client.has_account = false,
        other => bail!("unknown words: {}", other.join(" ")),
    }
    Ok((name, client))
}

fn parse_verb(text: &str, block: &str) -> Result<Verb> {
    if let Some(jid) = text.strip_prefix("resumes as ") {
        return Ok(Verb::Resume(jid.to_owned()));
    }
    if let Some(mechanism) = text.strip_prefix("authenticates by ") {
        return Ok(Verb::AuthenticateBy(mechanism.to_owned()));
    }
    if let Some(quoted) = text.strip_prefix("sends bytes: ") {
        return Ok(Verb::SendBytes(unescape(quoted)?));
    }
    if let Some(count) = text.strip_prefix("is acknowledged up to ") {
        return Ok(Verb::Acknowledged(count.parse().context("no number")?));
    }
    Ok(match text {
        "connects" => Verb::Connect,
        "logs in" => Verb::LogIn,
        "comes online" => Verb::ComeOnline,
        "dials" => Verb::Dial,
        "dials the tls port" => Verb::DialTls,
        "dials the websocket" => Verb::DialWebSocket,
        "dials the starttls port" => Verb::DialStartTls,
        "starts tls" => Verb::StartTls,
        "opens a stream" => Verb::OpenStream,
        "authenticates" => Verb::Authenticate,
        "binds" => Verb::Bind,
        "sends:" => Verb::Send(unindented(block).trim().to_owned()),
        "receives:" => Verb::Receive(parse_patterns(block)?),
        "receives in any order:" => Verb::ReceiveInAnyOrder(parse_patterns(block)?),
        "receives header:" => Verb::ReceiveHeader(Box::new(parse_header(block)?)),
        "receives nothing" => Verb::ReceiveNothing,
        "ignores what came" => Verb::Ignore,
        "is closed" => Verb::Closed,
        "is cut off" => Verb::CutOff,
        "disconnects" => Verb::Disconnect,
        "cuts" => Verb::Cut,
        _ => bail!("`{text}` is nothing a client does"),
    })
}

fn parse_patterns(block: &str) -> Result<Vec<Element>> {
    let patterns = expect::parse_elements(block).map_err(anyhow::Error::msg)?;
    ensure!(!patterns.is_empty(), "the block has no element");
    Ok(patterns)
}

/// A start tag alone, as a server sends it, read as an element without content.
fn parse_header(block: &str) -> Result<Element> {
    let tag = block
        .trim()
        .strip_suffix('>')
        .context("a start tag is expected")?;
    let mut patterns = parse_patterns(&format!("{}/>", tag.trim_end_matches('/')))?;
    Ok(patterns.remove(0))
}

/// Takes away the indentation that all lines of a block have.
fn unindented(block: &str) -> String {
    let indent = block
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len());
    let indent = indent.min().unwrap_or(0);
    block
        .lines()
        .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
        .collect()
}

fn unescape(quoted: &str) -> Result<Vec<u8>> {
    let text = quoted
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .context("bytes stand in double quotes")?;
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match chars.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some(quote @ ('"' | '\\')) => bytes.push(quote as u8),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(
                    u8::from_str_radix(&digits, 16)
                        .with_context(|| format!("`\\x{digits}` is no byte"))?,
                );
            }
            other => bail!("unknown escape {other:?}"),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
# XEP-0199: XMPP Ping.

scenario a ping
client romeo romeo@localhost/orchard over starttls
client ghost ghost@localhost without account
not on prosody: it has no such option
with config:
  [modules.mod_ping]
  ping_interval = 1

romeo and ghost are friends
romeo connects
romeo sends:
  <iq type='get' id='1'>
    <ping xmlns='urn:xmpp:ping'/>
  </iq>
romeo receives:
  <iq type='result' id='1'/>
romeo receives header:
  <stream:stream id='{any}' version='1.0'>
romeo sends bytes: \"\\x16\\n<é\"
romeo is acknowledged up to 3
";

    #[test]
    fn a_file_is_read() {
        let scenarios = parse(SAMPLE).unwrap();
        let scenario = &scenarios[0];
        assert_eq!(
            (scenarios.len(), scenario.name.as_str(), scenario.line),
            (1, "a ping", 3)
        );
        assert_eq!(scenario.config, "[modules.mod_ping]\nping_interval = 1\n\n");
        assert_eq!(scenario.skipped_peers, ["prosody"]);
        assert_eq!(scenario.clients["romeo"].security, Security::StartTls);
        assert_eq!(
            scenario.clients["romeo"].resource.as_deref(),
            Some("orchard")
        );
        assert!(!scenario.clients["ghost"].has_account);
        assert!(
            matches!(&scenario.steps[0].action, Action::Befriend(a, b) if a == "romeo" && b == "ghost")
        );
        let Action::Client(_, Verb::Send(sent)) = &scenario.steps[2].action else {
            panic!("{:?}", scenario.steps[2])
        };
        assert_eq!(
            sent,
            "<iq type='get' id='1'>\n  <ping xmlns='urn:xmpp:ping'/>\n</iq>"
        );
        assert!(
            matches!(&scenario.steps[4].action, Action::Client(_, Verb::ReceiveHeader(tag)) if tag.name() == "stream")
        );
        assert!(
            matches!(&scenario.steps[5].action, Action::Client(_, Verb::SendBytes(b)) if b == "\x16\n<é".as_bytes())
        );
        assert!(matches!(
            &scenario.steps[6].action,
            Action::Client(_, Verb::Acknowledged(3))
        ));
    }

    #[test]
    fn a_table_makes_one_scenario_per_row() {
        let text = "# Test.\nscenario {who} waits\nclient {who} {who}@localhost\nexamples:\n  | who    | id  |\n  | romeo  | a|b |\n  | juliet | c   |\n{who} connects\n{who} sends:\n  <x id='{id}' y='{z}'/>\n";
        let scenarios = parse(text).unwrap();
        assert_eq!(scenarios[0].name, "romeo waits");
        assert_eq!(scenarios[1].name, "juliet waits");
        let sent: Vec<&str> = scenarios
            .iter()
            .map(|scenario| match &scenario.steps[1].action {
                Action::Client(_, Verb::Send(text)) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sent, ["<x id='a|b' y='{z}'/>", "<x id='c' y='{z}'/>"]);
        assert_eq!(scenarios[1].steps[1].line, 9);
    }

    fn check_error(text: &str, expected: &str) {
        let text = format!("# Test.\nscenario s\nclient romeo romeo@localhost\n{text}\n");
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        check_error(
            "romeo conects",
            "line 4: `romeo conects`: `conects` is nothing a client does",
        );
        check_error("juliet connects", "no client juliet is declared");
        check_error("romeo sends:", "the indented block is missing");
        check_error("romeo connects\n  <x/>", "an indented block");
        check_error("romeo receives:\n  <iq>", "no well-formed XML");
        check_error("client romeo romeo@localhost", "declared twice");
        check_error("client a @@", "@@ is no address");
        check_error("not on prosody", "`not on PEER: reason`");
        check_error("romeo sends bytes: \"\\xzz\"", "is no byte");
        assert!(
            parse("# Test.\nromeo connects")
                .unwrap_err()
                .to_string()
                .contains("before the first `scenario`")
        );
        assert!(
            parse("scenario s")
                .unwrap_err()
                .to_string()
                .contains("the first line")
        );
        assert!(
            parse("# Test.\nscenario s")
                .unwrap_err()
                .to_string()
                .contains("without a step")
        );
    }
}
