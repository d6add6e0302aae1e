//! What is read and written as tables, and the window against a model of a client behind a bad network.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::*;
use crate::ns;
use crate::xml::{Item, Limits, StreamReader};

const OPEN: &str = "<body xmlns='http://jabber.org/protocol/httpbind' rid='7' sid='s'";

#[track_caller]
fn read(body: &str) -> Request {
    Request::parse(body.as_bytes()).unwrap_or_else(|condition| panic!("{body}: {condition:?}"))
}

#[track_caller]
fn refused(body: &str, expected: Condition) {
    let found = Request::parse(body.as_bytes());
    assert_eq!(found, Err(expected), "{body}");
}

// ---- requests

#[test]
fn attributes_are_read_by_their_names_and_namespaces() {
    let request = read(
        "\u{feff}<?xml version='1.0' encoding='utf-8'?>\n<bosh:body xmlns:bosh='http://jabber.org/protocol/httpbind' \
         content='text/html' from='romeo@example.net' hold='1000000' rid='9007199254740991' to='example.net' \
         route='xmpp:inside:25' ver='1.6' wait='1000000000' ack='1' xml:lang='de' x:version='1.0' x:restart='true' \
         xmlns:x='urn:xmpp:xbosh' restart='no' newkey='k'/>\n",
    );
    let expected = Request {
        rid: RID_MAX,
        ack: Some(1),
        newkey: Some("k".into()),
        restarts: true,
        to: Some("example.net".into()),
        from: Some("romeo@example.net".into()),
        lang: Some("de".into()),
        version: Some("1.0".into()),
        wait_secs: Some(1_000_000_000),
        hold: Some(1_000_000),
        ver: Some((1, 6)),
        ..Request::default()
    };
    assert_eq!(request, expected);
    assert!(!request.is_empty(), "a restart is something");
}

#[test]
fn a_request_may_end_pause_or_do_nothing() {
    assert!(read(&format!("{OPEN}/>")).is_empty());
    assert!(read(&format!("{OPEN}> \n</body>")).is_empty());
    let end = read(&format!("{OPEN} type='terminate' key='a'/>"));
    assert!(end.terminates && end.is_urgent() && end.key.as_deref() == Some("a"));
    let pause = read(&format!("{OPEN} pause='99999999999999999999'/>"));
    assert_eq!(pause.pause_secs, Some(u32::MAX));
    assert!(pause.is_urgent() && !pause.is_empty());
}

/// Security cases B01, B04 and B06, and those of the reader.
#[test]
fn b01_b04_what_is_no_body_is_refused() {
    let bad = [
        "",
        " ",
        "<",
        "<body",
        "<body xmlns='http://jabber.org/protocol/httpbind'",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'/><body/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'></body> x",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'>text</body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'><a></body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'><p:a/></body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' rid='2'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'></bodi>",
        "<body xmlns='http://jabber.org/protocol/httpbind'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid=''/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='0'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='-1'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='+1'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1.0'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='9007199254740992'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='99999999999999999999999'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' wait='x'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' type='error'/>",
        "<body xmlns='jabber:client' rid='1'/>",
        "<body rid='1'/>",
        "<p:body xmlns='http://jabber.org/protocol/httpbind' rid='1'/>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' rid='1'/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><body xmlns='http://jabber.org/protocol/httpbind' rid='1'/>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'><!-- --></body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'>&b;</body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'><stream:stream xmlns:stream='http://etherx.jabber.org/streams'/></body>",
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1'>\0</body>",
        " <?xml version='1.0'?><body xmlns='http://jabber.org/protocol/httpbind' rid='1'/>",
    ];
    for body in bad {
        refused(body, Condition::BadRequest);
    }
    for bytes in [
        &b"<body \xff"[..],
        b"\xfe\xff\0<",
        b"<\0b\0",
        b"<body a='\xc3'/>",
    ] {
        assert_eq!(Request::parse(bytes), Err(Condition::BadRequest));
    }
    let many = |count: usize| format!("{OPEN}>{}</body>", "<a/>".repeat(count));
    assert_eq!(read(&many(CHILDREN_MAX)).children, CHILDREN_MAX);
    refused(&many(CHILDREN_MAX + 1), Condition::PolicyViolation);
    let too_much = [
        format!("{OPEN}>{}</body>", " ".repeat(BODY_BYTES_MAX)),
        format!("{OPEN} to='{}'/>", "a".repeat(ATTRIBUTE_BYTES_MAX + 1)),
        format!("{OPEN}>{}</body>", "<a>".repeat(100)),
        format!("{OPEN}><a b='{}'/></body>", "x".repeat(70_000)),
        format!(
            "{OPEN}{}/>",
            (0..100).map(|n| format!(" a{n}=''")).collect::<String>()
        ),
    ];
    for body in too_much {
        refused(&body, Condition::PolicyViolation);
    }
}

/// What the session reads: the children's bytes wherever they mean the same there.
#[test]
fn children_become_bytes_of_a_stream() {
    let rows = [
        (
            "<message xmlns='jabber:client' to='a@b'><body>hi &lt;</body></message>",
            "<message xmlns='jabber:client' to='a@b'><body>hi &lt;</body></message>",
        ),
        // Whoever declares nothing means a stanza.
        ("<presence/>", "<presence/>"),
        (
            " <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>\n<presence/>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth><presence/>",
        ),
        // Prefixes of the body do not reach the stream.
        (
            "<message><o:a o:b='1'/></message>",
            "<message><a xmlns='urn:o' xmlns:ns0='urn:o' ns0:b='1'/></message>",
        ),
        (
            "<c:iq type='get'><q xmlns='urn:q'/></c:iq>",
            "<iq type='get'><q xmlns='urn:q'/></iq>",
        ),
        // Nobody becomes a stanza by the namespace of the wrapper.
        (
            "<message xmlns='http://jabber.org/protocol/httpbind'/>",
            "<message xmlns='http://jabber.org/protocol/httpbind'/>",
        ),
    ];
    for (children, expected) in rows {
        let body = format!("{OPEN} xmlns:o='urn:o' xmlns:c='jabber:client'>{children}</body>");
        let found = String::from_utf8(read(&body).stream).unwrap();
        if found != expected {
            let tree = |text: &str| {
                let all = format!("<a xmlns='jabber:client'>{text}</a>");
                crate::Element::parse(all.as_bytes(), "").unwrap()
            };
            assert_eq!(tree(&found), tree(expected), "{found}");
        }
        // The session's own reader takes it.
        let mut reader = StreamReader::new(Limits::AUTHENTICATED);
        let mut header = Vec::new();
        crate::stream::write_client_header(&mut header, None, "b", None);
        header.extend_from_slice(found.as_bytes());
        let mut input = header.as_slice();
        while reader.next(&mut input).unwrap().is_some() {}
        assert!(!reader.is_inside());
    }
}

// ---- responses

fn payload(stream: &str) -> Payload {
    let mut reader = StreamReader::new(Limits::STORED);
    let mut header = Vec::new();
    crate::stream::write_client_header(&mut header, None, "b", None);
    header.extend_from_slice(stream.as_bytes());
    let mut input = header.as_slice();
    let mut payload = Payload::default();
    while let Some(item) = reader.next(&mut input).unwrap() {
        if let Item::Element(frame) = item {
            let mut one = Payload::default();
            one.push(&frame);
            payload.append(&one);
        }
    }
    payload
}

#[track_caller]
fn written(response: &Response<'_>, expected: &str) {
    let bytes = String::from_utf8(response.to_bytes()).unwrap();
    assert_eq!(bytes, expected);
    let parsed = crate::Element::parse(bytes.as_bytes(), "").unwrap();
    assert!(parsed.is("body", ns::HTTP_BIND));
}

#[test]
fn answers_are_written_with_all_namespaces() {
    written(
        &Response::default(),
        "<body xmlns='http://jabber.org/protocol/httpbind'/>",
    );
    let stanza =
        payload("<message to='a'><body>b</body></message><a xmlns='urn:xmpp:sm:3' h='1'/>");
    written(
        &Response {
            payload: Some(&stanza),
            ack: Some(9),
            report: Some((7, 852)),
            ..Response::default()
        },
        "<body xmlns='http://jabber.org/protocol/httpbind' ack='9' report='7' time='852'>\
         <message xmlns='jabber:client' to='a'><body>b</body></message><a xmlns='urn:xmpp:sm:3' h='1'/></body>",
    );
    let error = payload(
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    );
    written(
        &Response {
            payload: Some(&error),
            ending: Some(Ending(Some(Condition::RemoteStreamError))),
            ..Response::default()
        },
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' \
         type='terminate' condition='remote-stream-error'><stream:error>\
         <conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></body>",
    );
    for condition in Condition::ALL {
        let name = condition.name();
        written(
            &Response {
                ending: Some(Ending(Some(condition))),
                ..Response::default()
            },
            &format!(
                "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='{name}'/>"
            ),
        );
    }
}

/// Security case X35: what a client has chosen is echoed by one escape function.
#[test]
fn the_first_answer_tells_the_terms() {
    let created = Created {
        sid: "s".into(),
        wait_secs: 60,
        requests: 2,
        hold: 1,
        inactivity_secs: Some(30),
        polling_secs: None,
        pause_max_secs: 120,
        ver: Some((1, 6)),
        from: "a'b<".into(),
        authid: Some("i".into()),
    };
    written(
        &Response {
            created: Some(&created),
            ..Response::default()
        },
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' sid='s' ver='1.6' \
         from='a&apos;b&lt;' authid='i' wait='60' requests='2' hold='1' inactivity='30' maxpause='120' \
         charsets='UTF-8' xmpp:version='1.0' xmpp:restartlogic='true'/>",
    );
    let newer = Created {
        ver: Some((2, 0)),
        ..created
    };
    let bytes = Response {
        created: Some(&newer),
        ..Response::default()
    }
    .to_bytes();
    assert!(String::from_utf8(bytes).unwrap().contains(" ver='1.11' "));
}

// ---- the window

fn request(rid: u64) -> Request {
    Request {
        rid,
        ..Request::default()
    }
}

fn terms(first: &Request) -> Terms {
    Terms::agree(first, 60, Some(30), 120, false)
}

fn window() -> Window {
    Window::new(terms(&request(10)), &request(10), 0, 0)
}

fn empty(window: &mut Window, now: u64) -> Arc<[u8]> {
    let rid = window.front(now).expect("somebody waits").rid;
    let bytes: Arc<[u8]> = rid.to_string().into_bytes().into();
    window.answer(bytes.clone(), 0, now);
    bytes
}

#[track_caller]
fn broken(arrival: &Arrival, expected: Condition) {
    assert!(
        matches!(arrival, Arrival::Broken(condition) if *condition == expected),
        "{arrival:?}"
    );
}

#[track_caller]
fn in_turn(arrival: Arrival) -> Vec<u64> {
    match arrival {
        Arrival::InTurn(ready) => ready.iter().map(|request| request.rid).collect(),
        other => panic!("{other:?}"),
    }
}

/// Security case B06.
#[test]
fn b06_terms_are_clamped() {
    let agreed = |wait, hold| {
        let terms = terms(&Request {
            wait_secs: wait,
            hold,
            ..request(1)
        });
        (terms.wait_secs, terms.hold, terms.requests())
    };
    assert_eq!(agreed(Some(u32::MAX), Some(1_000_000)), (60, 1, 2));
    assert_eq!(agreed(None, None), (60, 1, 2));
    assert_eq!(agreed(Some(10), Some(1)), (10, 1, 2));
    assert_eq!(agreed(Some(0), Some(1)), (0, 0, 1));
    assert_eq!(agreed(Some(60), Some(0)), (0, 0, 1));
    let first = request(1);
    assert_eq!(Terms::agree(&first, 20, None, 0, true).wait_secs, 20);
}

#[test]
fn requests_are_processed_in_their_order() {
    let mut window = window();
    empty(&mut window, 0);
    assert!(matches!(window.arrive(request(12), 1, 0), Arrival::Early));
    assert_eq!(window.standing(12, 1), Standing::Waiting);
    assert_eq!(in_turn(window.arrive(request(11), 2, 0)), [11, 12]);
    assert_eq!(window.front(0).unwrap().rid, 11);
    assert!(
        window.is_due(0, Inbound::Read, false),
        "one more than may be held"
    );
    assert!(
        !window.is_due(0, Inbound::Waiting, false),
        "the session comes first"
    );
    empty(&mut window, 0);
    assert!(!window.is_due(59_999, Inbound::Waiting, false));
    assert!(window.is_due(60_000, Inbound::Waiting, false));
    assert!(!window.is_due(60_000, Inbound::Full, false));
}

/// Security case B01: the error is the same, whether the number is too great or too small.
#[test]
fn b01_numbers_outside_of_the_window_end_the_session() {
    for rid in [1, 9, 13, 14, RID_MAX] {
        let mut window = window();
        empty(&mut window, 0);
        broken(&window.arrive(request(rid), 1, 0), Condition::ItemNotFound);
    }
    let mut window = window();
    for rid in 11..20 {
        empty(&mut window, 0);
        assert_eq!(in_turn(window.arrive(request(rid), rid, 0)), [rid]);
    }
    broken(&window.arrive(request(12), 1, 0), Condition::ItemNotFound);
    let last = Request {
        wait_secs: Some(0),
        ..request(RID_MAX)
    };
    let mut window = Window::new(terms(&last), &last, 0, 0);
    empty(&mut window, 0);
    broken(
        &window.arrive(request(RID_MAX + 1), 1, 0),
        Condition::BadRequest,
    );
}

#[test]
fn b01_a_repeated_number_gets_the_same_answer() {
    let mut window = window();
    let first = empty(&mut window, 0);
    assert_eq!(in_turn(window.arrive(request(11), 1, 0)), [11]);
    let other = Request {
        children: 1,
        stream: b"<presence/>".to_vec(),
        ..request(10)
    };
    match window.arrive(other, 2, 0) {
        Arrival::Repeated(bytes) => assert_eq!(bytes, first),
        other => panic!("{other:?}"),
    }
    // A copy of one that waits takes its place.
    assert!(matches!(window.arrive(request(11), 3, 0), Arrival::Again));
    assert_eq!(window.standing(11, 1), Standing::Replaced);
    let second = empty(&mut window, 0);
    assert_eq!(window.standing(11, 3), Standing::Answered(second));
}

/// Security case B03.
#[test]
fn b03_too_many_at_a_time_are_a_violation() {
    let mut window = window();
    assert_eq!(in_turn(window.arrive(request(11), 1, 0)), [11]);
    broken(
        &window.arrive(request(12), 2, 0),
        Condition::PolicyViolation,
    );
    // One more may come that ends or pauses.
    for (terminates, pause_secs) in [(true, None), (false, Some(120))] {
        let urgent = Request {
            terminates,
            pause_secs,
            ..request(12)
        };
        let mut window = self::window();
        window.arrive(request(11), 1, 0);
        assert_eq!(in_turn(window.arrive(urgent, 2, 0)), [12]);
        for _ in 10..=12 {
            assert!(window.is_due(0, Inbound::Read, false));
            assert!(!window.front(0).unwrap().may_carry);
            empty(&mut window, 0);
        }
    }
}

/// A request that crossed an answer does not say that it was received, and a client that holds a request makes no other.
#[test]
fn what_waits_for_a_receipt_asks_for_a_request() {
    let mut window = window();
    empty(&mut window, 0);
    in_turn(window.arrive(request(11), 1, 0));
    in_turn(window.arrive(request(12), 2, 0));
    window.answer(b"full"[..].into(), 4, 0);
    let front = window.front(0).unwrap();
    assert!(front.rid == 12 && !front.may_carry);
    assert!(!window.is_due(0, Inbound::Read, false), "nothing waits");
    assert!(window.is_due(0, Inbound::Read, true));
    assert!(!window.is_due(0, Inbound::Waiting, true));
    empty(&mut window, 0);
    in_turn(window.arrive(request(13), 3, 0));
    assert_eq!(window.take_received(), 4);
    assert!(window.front(0).unwrap().may_carry);
    assert!(!window.is_due(0, Inbound::Read, true), "it can be brought");
}

/// Security case B03.
#[test]
fn b03_who_polls_too_often_is_a_violation() {
    let first = Request {
        hold: Some(0),
        ..request(10)
    };
    let mut window = Window::new(terms(&first), &first, 0, 0);
    assert_eq!(window.terms().polling_secs(), Some(POLLING_SECS));
    assert!(window.is_due(0, Inbound::Read, false), "nothing is held");
    empty(&mut window, 0);
    window.arrive(request(11), 1, 10_000);
    window.answer(b"full"[..].into(), 4, 10_000);
    in_turn(window.arrive(request(12), 2, 10_001));
    empty(&mut window, 10_001);
    in_turn(window.arrive(request(13), 3, 15_001));
    empty(&mut window, 15_001);
    broken(
        &window.arrive(request(14), 4, 20_000),
        Condition::PolicyViolation,
    );
}

#[test]
fn silence_ends_a_session_unless_it_was_announced() {
    let mut window = window();
    assert_eq!(window.inactive_at(), None, "somebody waits");
    empty(&mut window, 5_000);
    assert_eq!(window.inactive_at(), Some(35_000));
    let pause = |rid, secs| Request {
        pause_secs: Some(secs),
        ..request(rid)
    };
    in_turn(window.arrive(pause(11, 120), 1, 6_000));
    empty(&mut window, 6_000);
    assert_eq!(window.inactive_at(), Some(126_000));
    in_turn(window.arrive(request(12), 2, 100_000));
    assert_eq!(window.inactive_at(), None);
    // The connection is gone.
    window.leave(12, 2, 101_000);
    assert_eq!(window.inactive_at(), Some(131_000));
    assert!(!window.front(101_000).unwrap().may_carry);
    assert!(matches!(
        window.arrive(request(12), 3, 102_000),
        Arrival::Again
    ));
    assert_eq!(window.inactive_at(), None);
    assert!(window.front(102_000).unwrap().may_carry);
    broken(
        &window.arrive(pause(13, 121), 4, 102_000),
        Condition::PolicyViolation,
    );
}

/// One that came too early and whose sender has gone is nobody's place to wait.
#[test]
fn who_has_gone_before_its_turn_does_not_wait() {
    let mut window = window();
    empty(&mut window, 0);
    assert!(matches!(window.arrive(request(12), 1, 0), Arrival::Early));
    window.leave(12, 1, 0);
    in_turn(window.arrive(request(11), 2, 0));
    empty(&mut window, 0);
    let front = window.front(0).unwrap();
    assert_eq!((front.rid, front.may_carry), (12, false));
    assert_eq!(window.inactive_at(), Some(30_000));
}

#[test]
fn acknowledgements_go_both_ways() {
    let first = Request {
        ack: Some(1),
        ..request(10)
    };
    let terms = Terms::agree(&first, 60, Some(30), 120, true);
    let mut window = Window::new(terms, &first, 0, 0);
    window.answer(b"full"[..].into(), 4, 100);
    // It crossed the answer.
    let crossing = Request {
        ack: Some(9),
        ..request(11)
    };
    in_turn(window.arrive(crossing, 1, 200));
    assert_eq!(window.take_received(), 0);
    let front = window.front(1_000).unwrap();
    assert_eq!(front.report, Some((10, 900)));
    assert!(!front.may_carry && window.is_due(200, Inbound::Read, false));
    empty(&mut window, 200);
    in_turn(window.arrive(request(12), 2, 300));
    assert_eq!(window.take_received(), 4);
    assert_eq!(window.take_received(), 0);
    in_turn(window.arrive(request(13), 3, 300));
    let front = window.front(300).unwrap();
    assert_eq!((front.rid, front.ack, front.report), (12, Some(13), None));
}

/// Security case B02: section 15, with keys made by the rule of section 15.3.
#[test]
fn b02_keys_follow_one_another() {
    let keys = keys("seed", 5);
    let first = Request {
        newkey: Some(keys[4].as_str().into()),
        ..request(10)
    };
    let started = || {
        let mut window = Window::new(terms(&first), &first, 0, 0);
        empty(&mut window, 0);
        window
    };
    let with_key = |rid, key: &str, newkey: Option<&str>| Request {
        key: Some(key.into()),
        newkey: newkey.map(Into::into),
        ..request(rid)
    };
    for wrong in [
        request(11),
        with_key(11, &keys[4], None),
        with_key(11, "", None),
    ] {
        broken(&started().arrive(wrong, 1, 0), Condition::ItemNotFound);
    }
    let mut window = started();
    in_turn(window.arrive(with_key(11, &keys[3], None), 1, 0));
    empty(&mut window, 0);
    // Who repeats has to know the key too.
    broken(&window.arrive(request(11), 2, 0), Condition::ItemNotFound);
    let again = window.arrive(with_key(11, &keys[3], None), 3, 0);
    assert!(matches!(again, Arrival::Repeated(_)));
    let others = self::keys("another", 3);
    in_turn(window.arrive(with_key(12, &keys[2], Some(&others[2])), 4, 0));
    empty(&mut window, 0);
    in_turn(window.arrive(with_key(13, &others[1], None), 5, 0));
    empty(&mut window, 0);
    // Out of order they are checked in order.
    let early = window.arrive(with_key(15, &keys[0], None), 6, 0);
    assert!(matches!(early, Arrival::Early));
    let turn = window.arrive(with_key(14, &others[0], None), 7, 0);
    broken(&turn, Condition::ItemNotFound);
}

fn keys(seed: &str, count: usize) -> Vec<String> {
    use sha1::Digest as _;
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..count {
        let last = keys.last().map_or(seed, String::as_str);
        let digest = sha1::Sha1::digest(last.as_bytes());
        keys.push(digest.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    keys
}

#[test]
fn at_the_end_everybody_who_waits_is_told() {
    let mut window = window();
    empty(&mut window, 0);
    assert!(matches!(window.arrive(request(12), 1, 0), Arrival::Early));
    let last: Arc<[u8]> = b"last"[..].into();
    window.end(&last, 0);
    assert_eq!(window.standing(12, 1), Standing::Answered(last));
    assert_eq!(window.front(0), None);
}

// ---- a model

/// The generator of the tests of the reader.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap() % bound
    }
}

/// A client that may lose requests and answers, and a server that has a stream of numbers for it.
struct World {
    random: Random,
    window: Window,
    now: u64,
    ticket: u64,
    has_acks: bool,
    // The client.
    next_rid: u64,
    /// Requests without an answer, as they were sent first.
    sent: BTreeMap<u64, Request>,
    /// Answers by request, until those before them have come.
    answers: BTreeMap<u64, Arc<[u8]>>,
    next_answer: u64,
    got: Vec<u8>,
    // The network.
    requests: Vec<Request>,
    waiting: Vec<(u64, u64)>,
    // The server.
    processed: Vec<u64>,
    to_send: VecDeque<u8>,
    made: u8,
    received: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let has_acks = random.below(2) == 0;
        let first = Request {
            ack: has_acks.then_some(1),
            hold: Some(u32::try_from(random.below(3)).unwrap()),
            children: 1,
            ..request(100)
        };
        let window = Window::new(terms(&first), &first, 0, 0);
        Self {
            random,
            window,
            now: 0,
            ticket: 0,
            has_acks,
            next_rid: 101,
            sent: BTreeMap::from([(100, first)]),
            answers: BTreeMap::new(),
            next_answer: 100,
            got: Vec::new(),
            requests: Vec::new(),
            waiting: vec![(100, 0)],
            processed: vec![100],
            to_send: VecDeque::new(),
            made: 0,
            received: 0,
        }
    }

    fn step(&mut self) {
        self.now += u64::try_from(self.random.below(2_000)).unwrap();
        match self.random.below(6) {
            0 | 1 => self.send(),
            2 => self.repeat(),
            3 => self.deliver_request(),
            4 => {
                self.made = self.made.wrapping_add(1);
                self.to_send.push_back(self.made);
            }
            _ => self.deliver_answer(),
        }
        self.serve();
    }

    fn send(&mut self) {
        // Answers are kept for those who do not run ahead of one that they lack.
        if self.next_rid - self.next_answer >= u64::from(self.window.terms().requests()) {
            return;
        }
        let rid = self.next_rid;
        self.next_rid += 1;
        let has_all = self.sent.is_empty();
        let request = Request {
            ack: (self.has_acks && !has_all).then(|| self.next_answer - 1),
            children: 1,
            ..request(rid)
        };
        self.sent.insert(rid, request.clone());
        self.requests.push(request);
    }

    /// A connection breaks: the same request is sent again.
    fn repeat(&mut self) {
        let Some(index) = (!self.sent.is_empty()).then(|| self.random.below(self.sent.len()))
        else {
            return;
        };
        let (rid, request) = self.sent.iter().nth(index).unwrap();
        self.waiting.retain(|(waiting, ticket)| {
            if waiting == rid {
                self.window.leave(*rid, *ticket, self.now);
            }
            waiting != rid
        });
        self.requests.push(request.clone());
    }

    fn deliver_request(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let index = self.random.below(self.requests.len());
        let request = self.requests.swap_remove(index);
        if !self.sent.contains_key(&request.rid) {
            return;
        }
        self.ticket += 1;
        let (rid, ticket) = (request.rid, self.ticket);
        match self.window.arrive(request, ticket, self.now) {
            Arrival::InTurn(ready) => self.processed.extend(ready.iter().map(|r| r.rid)),
            Arrival::Early | Arrival::Again | Arrival::Repeated(_) => {}
            Arrival::Broken(condition) => panic!("{condition:?} for {rid}"),
        }
        self.waiting.push((rid, ticket));
    }

    fn deliver_answer(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(rid, ticket)| match self.window.standing(*rid, *ticket) {
            Standing::Waiting => true,
            Standing::Replaced => false,
            Standing::Answered(bytes) => {
                let is_lost = self.random.below(4) == 0;
                if !is_lost && self.sent.remove(rid).is_some() {
                    self.answers.insert(*rid, bytes);
                }
                false
            }
        });
        self.waiting = waiting;
        while let Some(bytes) = self.answers.remove(&self.next_answer) {
            self.next_answer += 1;
            self.got.extend_from_slice(&bytes);
        }
    }

    fn serve(&mut self) {
        self.received += self.window.take_received();
        if self.has_acks {
            assert!(self.received <= self.got.len(), "only what the client has");
        }
        while let Some(front) = self.window.front(self.now) {
            if front.may_carry && !self.to_send.is_empty() {
                let bytes: Vec<u8> = self.to_send.drain(..).collect();
                let carried = bytes.len();
                self.window.answer(bytes.into(), carried, self.now);
            } else if self.window.is_due(self.now, Inbound::Read, false) {
                self.window.answer(b""[..].into(), 0, self.now);
            } else {
                break;
            }
        }
        assert!(self.window.held_bytes() <= 3 * 256);
    }
}

#[test]
fn nothing_is_lost_doubled_or_turned_round_by_a_bad_network() {
    for seed in 1..=300 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        let made: Vec<u8> = (1..=world.made).collect();
        // The network is good again, and the client asks until it has all.
        for _ in 0..2_000 {
            if world.got.len() == made.len() {
                break;
            }
            world.send();
            world.repeat();
            while !world.requests.is_empty() {
                world.deliver_request();
            }
            world.now += 60_000;
            world.serve();
            world.deliver_answer();
        }
        assert_eq!(world.got, made, "seed {seed}");
        let count = u64::try_from(world.processed.len()).unwrap();
        let in_order: Vec<u64> = (100..100 + count).collect();
        assert_eq!(world.processed, in_order, "seed {seed}");
    }
}
