//! RFC 6121 section 8.5: what becomes of each kind of stanza, for each kind of address and each state of the receiver.
use std::collections::BTreeMap;
use std::fmt;

use protocol::{Element, ns};
use tests::client::{Account, Client, Security};
use tests::scenario::PASSWORD;
use tests::target::{DOMAIN, Peer, Setup, Target};

use crate::peer;

/// One cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// `E`: the sender gets `service-unavailable`.
    Error,
    /// `S`: nobody learns of it.
    Silence,
    /// `O`: it waits in the offline store.
    Offline,
    /// `D`: the client that is addressed gets it.
    Delivered,
    /// `A`: every client with a priority that is not negative gets it.
    AllWilling,
    /// `P`: every available client gets it.
    AllAvailable,
}

/// The states of the receiver, in the order of the table's columns.
const STATES: [&str; 6] = [
    "no account",
    "offline",
    "connected",
    "negative",
    "one",
    "several",
];

/// `balcony` is the address with a resource that is connected wherever any is, `gone` one that never is.
const TABLE: &str = "
    to       stanza                no-account offline connected negative one several
    bare     message normal        E          O       O         O        A   A
    bare     message chat          E          O       O         O        A   A
    bare     message groupchat     E          E       E         E        E   E
    bare     message headline      S          S       S         S        A   A
    bare     message error         S          S       S         S        S   S
    bare     presence available    S          S       S         P        P   P
    bare     presence unavailable  S          S       S         P        P   P
    bare     iq get                E          E       E         E        E   E
    bare     iq set                E          E       E         E        E   E
    bare     iq result             S          S       S         S        S   S
    bare     iq error              S          S       S         S        S   S
    balcony  message normal        E          E       D         D        D   D
    balcony  message chat          E          O       D         D        D   D
    balcony  message groupchat     E          E       D         D        D   D
    balcony  message headline      S          S       D         D        D   D
    balcony  message error         S          S       D         D        D   D
    balcony  presence available    S          S       D         D        D   D
    balcony  presence unavailable  S          S       D         D        D   D
    balcony  iq get                E          E       E         E        E   E
    balcony  iq set                E          E       E         E        E   E
    balcony  iq result             S          S       D         D        D   D
    balcony  iq error              S          S       D         D        D   D
    gone     message normal        E          E       E         E        E   E
    gone     message chat          E          O       O         O        A   A
    gone     message groupchat     E          E       E         E        E   E
    gone     message headline      S          S       S         S        S   S
    gone     message error         S          S       S         S        S   S
    gone     presence available    S          S       S         S        S   S
    gone     presence unavailable  S          S       S         S        S   S
    gone     iq get                E          E       E         E        E   E
    gone     iq set                E          E       E         E        E   E
    gone     iq result             S          S       S         S        S   S
    gone     iq error              S          S       S         S        S   S
";

/// What Prosody does otherwise where the RFC leaves a choice, or else against it.
const PROSODY: &str = "
    balcony  message normal        E          O       D         D        D   D
    balcony  iq get                E          E       D         D        D   D
    balcony  iq set                E          E       D         D        D   D
    gone     message normal        E          O       O         O        A   A
";

struct Row {
    to: String,
    kind: String,
    stanza_type: String,
    outcomes: Vec<Outcome>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.to, self.kind, self.stanza_type)
    }
}

fn rows(table: &str) -> Vec<Row> {
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines = lines.filter(|words| !words.is_empty() && words[0] != "to");
    lines
        .map(|words| Row {
            to: words[0].to_owned(),
            kind: words[1].to_owned(),
            stanza_type: words[2].to_owned(),
            outcomes: words[3..].iter().map(|word| outcome(word)).collect(),
        })
        .collect()
}

fn outcome(letter: &str) -> Outcome {
    match letter {
        "E" => Outcome::Error,
        "S" => Outcome::Silence,
        "O" => Outcome::Offline,
        "D" => Outcome::Delivered,
        "A" => Outcome::AllWilling,
        "P" => Outcome::AllAvailable,
        _ => panic!("unknown letter {letter}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_account_that_does_not_exist() {
    check_column(0, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_account_without_a_client() {
    check_column(1, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_client_that_has_not_sent_presence() {
    check_column(2, &[("balcony", None)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_client_of_negative_priority() {
    check_column(3, &[("balcony", Some(-1))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_one_available_client() {
    check_column(4, &[("balcony", Some(0))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_several_available_clients() {
    check_column(
        5,
        &[("balcony", Some(1)), ("phone", Some(1)), ("mute", Some(-1))],
    )
    .await;
}

/// Plays every row of a column on one server. The receivers are resources with their priorities, `None` for one that
/// has sent no presence.
async fn check_column(column: usize, receivers: &[(&str, Option<i8>)]) {
    let mut rows = rows(TABLE);
    assert!(rows.iter().all(|row| row.outcomes.len() == STATES.len()));
    if peer() == Peer::Prosody {
        for other in self::rows(PROSODY) {
            let row = rows
                .iter_mut()
                .find(|row| row.to_string() == other.to_string())
                .unwrap();
            row.outcomes = other.outcomes;
        }
    }
    let accounts = if column == 0 {
        vec![account("romeo")]
    } else {
        vec![account("romeo"), account("juliet")]
    };
    let target = Target::start(
        peer(),
        Setup {
            accounts,
            ..Setup::default()
        },
    )
    .await
    .unwrap();
    let mut sender = connect(&target, "romeo", "orchard").await;
    let mut clients = BTreeMap::new();
    for (resource, priority) in receivers {
        let mut client = connect(&target, "juliet", resource).await;
        if let Some(priority) = priority {
            client
                .send(&format!(
                    "<presence><priority>{priority}</priority></presence>"
                ))
                .await
                .unwrap();
        }
        clients.insert(*resource, client);
    }
    let mut failures = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        forget(&mut sender, &mut clients).await;
        let id = format!("row-{index}");
        sender.send(&stanza(row, &id)).await.unwrap();
        let seen = observe(&target, column, &id, &mut sender, &mut clients).await;
        let expected = expected(row.outcomes[column], &row.kind, receivers);
        if seen != expected {
            failures.push(format!("{row}: expected {expected:?}, saw {seen:?}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        STATES[column],
        failures.join("\n")
    );
}

/// Who got the stanza, or what became of it: names of resources, `error`, `offline`.
fn expected(outcome: Outcome, kind: &str, receivers: &[(&str, Option<i8>)]) -> Vec<String> {
    let with = |is_wanted: fn(Option<i8>) -> bool| {
        let wanted = receivers
            .iter()
            .filter(|(_, priority)| is_wanted(*priority));
        wanted
            .map(|(resource, _)| format!("{kind} at {resource}"))
            .collect::<Vec<_>>()
    };
    let mut names = match outcome {
        Outcome::Error => vec!["error".to_owned()],
        Outcome::Silence => Vec::new(),
        Outcome::Offline => vec!["offline".to_owned()],
        Outcome::Delivered => vec![format!("{kind} at balcony")],
        Outcome::AllWilling => with(|priority| priority.is_some_and(|priority| priority >= 0)),
        Outcome::AllAvailable => with(|priority| priority.is_some()),
    };
    names.sort();
    names
}

async fn observe(
    target: &Target,
    column: usize,
    id: &str,
    sender: &mut Client,
    clients: &mut BTreeMap<&str, Client>,
) -> Vec<String> {
    let mut seen = Vec::new();
    sender.fence().await.unwrap();
    for (resource, client) in clients.iter_mut() {
        client.fence().await.unwrap();
        seen.extend(
            client
                .inbox()
                .drain(..)
                .map(|element| format!("{} at {resource}", element.name())),
        );
    }
    // Once more: what the receiving side's sessions answered.
    sender.fence().await.unwrap();
    seen.extend(sender.inbox().drain(..).map(|element| answer(&element, id)));
    // Only where nobody is willing can anything have been stored.
    if (1..4).contains(&column) && is_stored(target, id).await {
        seen.push("offline".to_owned());
    }
    seen.sort();
    seen
}

fn answer(element: &Element, id: &str) -> String {
    let error = element.child("error", ns::CLIENT);
    let is_expected = element.attr("type") == Some("error")
        && element.attr("id") == Some(id)
        && error.is_some_and(|error| {
            error
                .child("service-unavailable", ns::STANZA_ERRORS)
                .is_some()
        });
    if is_expected {
        "error".to_owned()
    } else {
        element.to_xml()
    }
}

/// Takes what waits for the account, by a client that is willing.
async fn is_stored(target: &Target, id: &str) -> bool {
    let mut client = connect(target, "juliet", "reader").await;
    client.send("<presence/>").await.unwrap();
    client.fence().await.unwrap();
    let is_stored = client
        .inbox()
        .iter()
        .any(|element| element.attr("id") == Some(id));
    client.disconnect().await.unwrap();
    is_stored
}

/// Lets everything arrive that is under way. What one client's presence makes the server tell another comes after that
/// one was asked, hence the second round.
async fn forget(sender: &mut Client, clients: &mut BTreeMap<&str, Client>) {
    for _ in 0..2 {
        for client in clients.values_mut().chain([&mut *sender]) {
            client.fence().await.unwrap();
            client.inbox().clear();
        }
    }
}

fn stanza(row: &Row, id: &str) -> String {
    let to = if row.to == "bare" {
        format!("juliet@{DOMAIN}")
    } else {
        format!("juliet@{DOMAIN}/{}", row.to)
    };
    let stanza_type = match row.stanza_type.as_str() {
        "normal" | "available" => String::new(),
        other => format!(" type='{other}'"),
    };
    let content = match (row.kind.as_str(), row.stanza_type.as_str()) {
        (_, "error") => {
            "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        }
        ("message", _) => "<body>hi</body>",
        ("iq", "get" | "set") => "<query xmlns='http://example.org/unknown'/>",
        _ => "",
    };
    format!(
        "<{0} to='{to}' id='{id}'{stanza_type}>{content}</{0}>",
        row.kind
    )
}

fn account(local: &str) -> Account {
    Account {
        local: local.to_owned(),
        domain: DOMAIN.to_owned(),
        password: PASSWORD.to_owned(),
    }
}

async fn connect(target: &Target, local: &str, resource: &str) -> Client {
    let address = target.address(Security::None);
    Client::connect(address, account(local), Some(resource), Security::None)
        .await
        .unwrap()
}
