//! What the server only carries: for each payload and type of message, who gets it, who gets a copy, and what becomes of
//! it where nobody is (RFC 6121 section 8.5, XEP-0160 section 3, XEP-0280 section 6, XEP-0334).
use std::collections::BTreeSet;

use protocol::{Element, ns};
use tests::client::{Account, Client, Security};
use tests::scenario::PASSWORD;
use tests::target::{DOMAIN, Peer, Setup, Target};

use crate::peer;

const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";

/// Payloads by the names of the table.
const PAYLOADS: &[(&str, &str)] = &[
    ("text", "<body>hi</body>"),
    ("nothing", ""),
    ("subject", "<subject>act two</subject>"),
    (
        "state",
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
    ),
    (
        "state-in-thread",
        "<thread>1</thread><gone xmlns='http://jabber.org/protocol/chatstates'/>",
    ),
    ("receipt", "<received xmlns='urn:xmpp:receipts' id='1'/>"),
    (
        "marker",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
    ),
    (
        "correction",
        "<body>ho</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
    ),
    (
        "call",
        "<propose xmlns='urn:xmpp:jingle-message:0' id='1'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose>",
    ),
    (
        "call-taken",
        "<accept xmlns='urn:xmpp:jingle-message:0' id='1'/>",
    ),
    (
        "omemo",
        "<encrypted xmlns='eu.siacs.conversations.axolotl'/><encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/>",
    ),
    (
        "omemo-2",
        "<encrypted xmlns='urn:xmpp:omemo:2'/><store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "reaction",
        "<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>+</reaction></reactions><store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "retraction",
        "<retract xmlns='urn:xmpp:message-retract:1' id='1'/><store xmlns='urn:xmpp:hints'/>",
    ),
    ("attention", "<attention xmlns='urn:xmpp:attention:0'/>"),
    (
        "invitation",
        "<x xmlns='jabber:x:conference' jid='room@example.org'/>",
    ),
    (
        "private",
        "<body>hi</body><private xmlns='urn:xmpp:carbons:2'/>",
    ),
    (
        "no-copy",
        "<body>hi</body><no-copy xmlns='urn:xmpp:hints'/>",
    ),
    (
        "no-store",
        "<body>hi</body><no-store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "no-store-state",
        "<active xmlns='http://jabber.org/protocol/chatstates'/><no-store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "no-permanent-store",
        "<body>hi</body><no-permanent-store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "store-state",
        "<active xmlns='http://jabber.org/protocol/chatstates'/><store xmlns='urn:xmpp:hints'/>",
    ),
    (
        "failure",
        "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
    ),
];

/// A cell names what happens: `D` the client that is addressed, or is willing, gets it; `R` the receiver's other client
/// gets a copy, `S` the sender's; `E` the sender gets `service-unavailable`, `F` its other client a copy of that; `O` it
/// waits in the offline store. `-`: nothing.
///
/// `offline`: to the account, which has no client. The others: to the account, to its client that takes messages, and to
/// one that is not there; that and one of negative priority are connected.
const TABLE: &str = "
    payload            type       offline  bare  full  gone
    text               chat       OS       DRS   DRS   DRS
    text               normal     OS       DRS   DRS   ESF
    text               headline   -        D     D     -
    text               groupchat  E        E     D     E
    nothing            chat       S        DRS   DRS   DRS
    nothing            normal     -        D     D     E
    subject            normal     O        D     D     E
    subject            chat       OS       DRS   DRS   DRS
    state              chat       S        DRS   DRS   DRS
    state              normal     S        DRS   DRS   ESF
    state-in-thread    chat       S        DRS   DRS   DRS
    receipt            chat       OS       DRS   DRS   DRS
    receipt            normal     OS       DRS   DRS   ESF
    marker             chat       OS       DRS   DRS   DRS
    marker             normal     OS       DRS   DRS   ESF
    correction         chat       OS       DRS   DRS   DRS
    call               chat       OS       DRS   DRS   DRS
    call               normal     OS       DRS   DRS   ESF
    call-taken         chat       OS       DRS   DRS   DRS
    omemo              chat       OS       DRS   DRS   DRS
    omemo-2            chat       OS       DRS   DRS   DRS
    omemo-2            normal     O        D     D     E
    reaction           chat       OS       DRS   DRS   DRS
    retraction         chat       OS       DRS   DRS   DRS
    attention          chat       OS       DRS   DRS   DRS
    attention          headline   -        D     D     -
    invitation         normal     OS       DRS   DRS   ESF
    private            chat       O        D     D     D
    no-copy            chat       O        D     D     D
    no-store           chat       ESF      DRS   DRS   DRS
    no-store-state     chat       S        DRS   DRS   DRS
    no-permanent-store chat       OS       DRS   DRS   DRS
    store-state        chat       OS       DRS   DRS   DRS
    failure            error      -        -     D     -
";

struct Row {
    payload: &'static str,
    message_type: &'static str,
    /// Of the four columns.
    cells: [BTreeSet<char>; 4],
}

fn rows() -> Vec<Row> {
    let lines = TABLE.trim().lines().skip(1);
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [payload, message_type, cells @ ..] = &words[..] else {
                panic!("a row is a payload, a type and cells: {line}");
            };
            let cells: [&str; 4] = cells.try_into().unwrap();
            Row {
                payload,
                message_type,
                cells: cells.map(|cell| cell.chars().filter(|letter| *letter != '-').collect()),
            }
        })
        .collect()
}

fn message(row: &Row, to: &str, id: &str) -> String {
    let payload = PAYLOADS.iter().find(|(name, _)| *name == row.payload);
    let (_, xml) = payload.unwrap_or_else(|| panic!("there is no payload {}", row.payload));
    let message_type = row.message_type;
    format!("<message to='{to}' type='{message_type}' id='{id}'>{xml}</message>")
}

/// Each payload stands in the table, so that none is forgotten.
#[test]
fn every_payload_has_a_row() {
    let rows = rows();
    for (name, xml) in PAYLOADS {
        assert!(rows.iter().any(|row| row.payload == *name), "{name}");
        let wrapped = format!("<message>{xml}</message>");
        Element::parse(wrapped.as_bytes(), ns::CLIENT).unwrap();
    }
    assert!(PAYLOADS.iter().any(|(_, xml)| xml.contains(CHAT_STATES)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_account_without_a_client() {
    if peer() != Peer::Meerkat {
        return;
    }
    let target = start().await;
    let (mut romeo, mut home) = senders(&target).await;
    let rows = rows();
    let mut seen = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let id = format!("row-{index}");
        let to = format!("juliet@{DOMAIN}");
        romeo.send(&message(row, &to, &id)).await.unwrap();
        seen.push(observe(&id, &mut romeo, &mut home, None).await);
    }
    // What waits comes when somebody is willing, and nothing else does.
    let mut juliet = connect(&target, "juliet", "balcony").await;
    juliet.send("<presence/>").await.unwrap();
    juliet.fence().await.unwrap();
    let stored: BTreeSet<String> = messages(&mut juliet).iter().filter_map(id_of).collect();
    for (index, seen) in seen.iter_mut().enumerate() {
        if stored.contains(&format!("row-{index}")) {
            seen.insert('O');
        }
    }
    compare(0, &rows, &seen);
    target.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_account() {
    check(1, &format!("juliet@{DOMAIN}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_client() {
    check(2, &format!("juliet@{DOMAIN}/balcony")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_client_that_is_not_there() {
    check(3, &format!("juliet@{DOMAIN}/gone")).await;
}

/// Plays every row of a column.
async fn check(column: usize, to: &str) {
    if peer() != Peer::Meerkat {
        return;
    }
    let target = start().await;
    let (mut romeo, mut home) = senders(&target).await;
    let mut balcony = connect(&target, "juliet", "balcony").await;
    let mut phone = connect(&target, "juliet", "phone").await;
    available(&mut balcony, 1).await;
    available(&mut phone, -1).await;
    want_copies(&mut phone).await;
    for client in [&mut balcony, &mut phone] {
        client.fence().await.unwrap();
        client.inbox().clear();
    }
    let rows = rows();
    let mut seen = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let id = format!("row-{index}");
        romeo.send(&message(row, to, &id)).await.unwrap();
        let receivers = Some((&mut balcony, &mut phone));
        seen.push(observe(&id, &mut romeo, &mut home, receivers).await);
    }
    compare(column, &rows, &seen);
    target.stop().await.unwrap();
}

fn compare(column: usize, rows: &[Row], seen: &[BTreeSet<char>]) {
    let wrong = rows
        .iter()
        .zip(seen)
        .filter(|(row, seen)| row.cells[column] != **seen);
    let lines: Vec<String> = wrong
        .map(|(row, seen)| {
            let (payload, message_type) = (row.payload, row.message_type);
            format!(
                "{payload} {message_type}: expected {:?}, saw {seen:?}",
                row.cells[column]
            )
        })
        .collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

/// What became of the message, by the letters of the table.
async fn observe(
    id: &str,
    romeo: &mut Client,
    home: &mut Client,
    receivers: Option<(&mut Client, &mut Client)>,
) -> BTreeSet<char> {
    let mut seen = BTreeSet::new();
    romeo.fence().await.unwrap();
    if let Some((balcony, phone)) = receivers {
        balcony.fence().await.unwrap();
        for message in messages(balcony) {
            assert_eq!(id_of(&message).as_deref(), Some(id), "{}", message.to_xml());
            seen.insert('D');
        }
        phone.fence().await.unwrap();
        for message in messages(phone) {
            seen.insert(copy("received", id, &message));
        }
    }
    romeo.fence().await.unwrap();
    for message in messages(romeo) {
        assert!(is_refusal(&message, id), "{}", message.to_xml());
        seen.insert('E');
    }
    home.fence().await.unwrap();
    for message in messages(home) {
        let letter = if message.child("sent", ns::CARBONS).is_some() {
            copy("sent", id, &message)
        } else {
            let inner = inner("received", &message);
            assert!(is_refusal(&inner, id), "{}", message.to_xml());
            'F'
        };
        assert!(seen.insert(letter), "twice: {}", message.to_xml());
    }
    seen
}

/// A copy of the message itself.
fn copy(direction: &str, id: &str, wrapper: &Element) -> char {
    let inner = inner(direction, wrapper);
    assert_eq!(id_of(&inner).as_deref(), Some(id), "{}", wrapper.to_xml());
    if direction == "sent" { 'S' } else { 'R' }
}

fn inner(direction: &str, wrapper: &Element) -> Element {
    let forwarded = wrapper
        .child(direction, ns::CARBONS)
        .and_then(|copy| copy.child("forwarded", ns::FORWARD));
    let inner = forwarded.and_then(|forwarded| forwarded.child("message", ns::CLIENT));
    inner
        .unwrap_or_else(|| panic!("no copy: {}", wrapper.to_xml()))
        .clone()
}

fn is_refusal(message: &Element, id: &str) -> bool {
    let error = message.child("error", ns::CLIENT);
    let error = error.and_then(|error| error.child("service-unavailable", ns::STANZA_ERRORS));
    message.attr("type") == Some("error") && message.attr("id") == Some(id) && error.is_some()
}

fn id_of(message: &Element) -> Option<String> {
    message.attr("id").map(str::to_owned)
}

/// The messages that have come.
fn messages(client: &mut Client) -> Vec<Element> {
    let is_message = |element: &Element| element.name() == "message";
    client.inbox().drain(..).filter(is_message).collect()
}

async fn start() -> Target {
    let setup = Setup {
        accounts: ["romeo", "juliet"].map(account).to_vec(),
        ..Setup::default()
    };
    Target::start(peer(), setup).await.unwrap()
}

/// Who sends, and a client of the same account that wants copies.
async fn senders(target: &Target) -> (Client, Client) {
    let romeo = connect(target, "romeo", "orchard").await;
    let mut home = connect(target, "romeo", "home").await;
    want_copies(&mut home).await;
    (romeo, home)
}

async fn available(client: &mut Client, priority: i8) {
    let presence = format!("<presence><priority>{priority}</priority></presence>");
    client.send(&presence).await.unwrap();
    client.fence().await.unwrap();
}

async fn want_copies(client: &mut Client) {
    let enable = "<iq type='set' id='copies'><enable xmlns='urn:xmpp:carbons:2'/></iq>";
    client.send(enable).await.unwrap();
    client.fence().await.unwrap();
    client.inbox().clear();
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
    let connected = Client::connect(address, account(local), Some(resource), Security::None);
    connected.await.unwrap()
}
