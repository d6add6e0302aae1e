//! XEP-0124: whatever is read as a `<body/>` is bytes of a stream, and the window stays within its bounds.
use std::sync::Arc;

use protocol::bosh::{
    Arrival, BODY_BYTES_MAX, Inbound, RID_MAX, Request, Response, Standing, Terms, Window,
};
use protocol::xml::{Item, Limits, StreamReader};
use protocol::{Element, ns};

use super::{Target, XML_WORDS};

pub(crate) const TARGET: Target = Target {
    name: "bosh",
    run,
    seeds: &[
        b"\x00<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='a' wait='60' hold='1' xml:lang='en' xmlns:x='urn:xmpp:xbosh' x:version='1.0'/>",
        b"\x00<?xml version='1.0'?><b:body xmlns:b='http://jabber.org/protocol/httpbind' rid='9' sid='s' key='k'><message xmlns='jabber:client' to='a@b'><body>hi</body></message><b:x/></b:body>",
        b"\x00<body xmlns='http://jabber.org/protocol/httpbind' rid='9' sid='s' type='terminate' pause='1' ack='3'><presence type='unavailable'/></body>",
        b"\x01\x01\x11\x21\x02\x31\x03\x12\x22\x41\x51\x71\x81",
        b"\x03\x01\x11\x21\x02\x31\x03\x12\x22\x41\x51\x71\x81",
    ],
    words: XML_WORDS,
};

fn run(input: &[u8]) {
    match input {
        [0, body @ ..] => read(body),
        [flags, steps @ ..] => walk(*flags, steps),
        [] => {}
    }
}

fn read(body: &[u8]) {
    let Ok(request) = Request::parse(body) else {
        return;
    };
    assert!(body.len() <= BODY_BYTES_MAX);
    assert!((1..=RID_MAX).contains(&request.rid));
    let mut stream = Vec::new();
    protocol::stream::write_client_header(&mut stream, None, "a", None);
    stream.extend_from_slice(&request.stream);
    let mut reader = StreamReader::new(Limits {
        // What is written anew may be longer than what was sent.
        oversize_factor: 8,
        ..Limits::AUTHENTICATED
    });
    let mut input = stream.as_slice();
    let mut children = 0;
    loop {
        match reader.next(&mut input) {
            Ok(None) => break,
            Ok(Some(Item::Header(header))) => assert_eq!(&*header.content_ns, ns::CLIENT),
            Ok(Some(Item::Element(_))) => children += 1,
            Ok(Some(Item::Close)) => panic!("a body ends no stream"),
            // Names of namespaces and prefixes of the wrapper may come to more than one element may have.
            Err(error) => {
                assert_eq!(error.condition, protocol::StreamCondition::PolicyViolation);
                return;
            }
        }
    }
    assert!(!reader.is_inside());
    assert_eq!(children, request.children);
}

/// Each byte is a step: what is done, and to which request.
fn walk(flags: u8, steps: &[u8]) {
    const FIRST: u64 = 100;
    let first = Request {
        rid: FIRST,
        hold: Some(u32::from(flags & 1)),
        ack: (flags & 2 != 0).then_some(1),
        ..Request::default()
    };
    let terms = Terms::agree(&first, 60, Some(30), 120, flags & 4 != 0);
    let mut window = Window::new(terms, &first, 0, 0);
    let mut next = FIRST + 1;
    let (mut now, mut carried, mut received) = (0_u64, 0_usize, 0_usize);
    for (ticket, step) in (1..).zip(steps) {
        now += u64::from(*step) * 16;
        let rid = FIRST + u64::from(step >> 4);
        match step & 7 {
            0..=2 => {
                let request = Request {
                    rid,
                    ack: (step & 8 != 0).then_some(rid.saturating_sub(2)),
                    pause_secs: (step & 7 == 2).then_some(60),
                    children: usize::from(step & 7 == 1),
                    ..Request::default()
                };
                match window.arrive(request, ticket, now) {
                    Arrival::InTurn(ready) => {
                        for request in ready {
                            assert_eq!(request.rid, next, "each once, in order");
                            next += 1;
                        }
                    }
                    Arrival::Early => assert!(rid > next),
                    Arrival::Again | Arrival::Repeated(_) => {}
                    Arrival::Broken(_) => return end(window, rid, now),
                }
            }
            3 => window.leave(rid, ticket.saturating_sub(1), now),
            4 => window.leave(rid, 0, now),
            _ => {
                if let Some(front) = window.front(now) {
                    let bytes: Arc<[u8]> = front.rid.to_string().into_bytes().into();
                    let bytes_carried = usize::from(front.may_carry) * usize::from(*step);
                    carried += bytes_carried;
                    window.answer(bytes.clone(), bytes_carried, now);
                    assert_eq!(window.standing(front.rid, 0), Standing::Answered(bytes));
                }
            }
        }
        received += window.take_received();
        assert!(received <= carried);
        assert!(window.held_bytes() <= 64);
        let front = window.front(now);
        assert!(front.is_some() || !window.is_due(now, Inbound::Read, true));
    }
}

fn end(mut window: Window, rid: u64, now: u64) {
    let last: Arc<[u8]> = Response::default().to_bytes().into();
    window.end(&last, now);
    assert_eq!(window.front(now), None);
    let _standing = window.standing(rid, 0);
    let body = Element::parse(&last, "").expect("it is well-formed");
    assert!(body.is("body", ns::HTTP_BIND));
}
