//! Counters, the gate and the outbox, without sockets.
use protocol::{Element, Framing, Stanza, ns};

use super::*;
use crate::testing::SETTINGS;

/// Three stanzas before the wrap.
const NEAR_WRAP: u32 = u32::MAX - 2;

fn message() -> Stanza {
    let body = Element::new("body", ns::CLIENT).with_text("hi");
    let element = Element::new("message", ns::CLIENT)
        .with_attr("to", "a@b")
        .with_child(body);
    Stanza::from_element(&element).expect("a good message")
}

fn kept(stanza: u32) -> Kept {
    Kept::new(message(), Some(Token { session: 1, stanza }), 0)
}

fn starts() -> [Managed; 2] {
    [
        Managed::new(SETTINGS, None),
        Managed::starting_at(SETTINGS, None, NEAR_WRAP),
    ]
}

#[test]
fn h_covers_only_the_settled_prefix() {
    for mut managed in starts() {
        let first = managed.tellable();
        let numbers: Vec<u32> = (0..5).map(|_| managed.receive().expect("new")).collect();
        assert_eq!(managed.tellable(), first);
        managed.settle(numbers[1]);
        managed.settle(numbers[2]);
        assert_eq!(managed.tellable(), first, "the first one is not settled");
        managed.settle(numbers[0]);
        assert_eq!(managed.tellable(), numbers[2]);
        managed.settle(numbers[4]);
        assert_eq!(managed.tellable(), numbers[2]);
        managed.settle(numbers[3]);
        assert_eq!(managed.tellable(), numbers[4]);
        assert_eq!(managed.unsettled_len(), 0);
    }
}

#[test]
fn a_stanza_with_several_targets_is_settled_by_the_last() {
    let mut managed = Managed::new(SETTINGS, None);
    let number = managed.receive().expect("new");
    managed.expect(number, 2);
    managed.settle(number);
    managed.settle(number);
    assert_eq!(managed.tellable(), 0);
    managed.settle(number);
    assert_eq!(managed.tellable(), 1);
}

#[test]
fn settling_twice_or_something_unknown_does_nothing() {
    let mut managed = Managed::new(SETTINGS, None);
    let number = managed.receive().expect("new");
    managed.settle(number);
    managed.settle(number);
    managed.settle(77);
    assert_eq!(managed.tellable(), 1);
}

#[test]
fn what_was_asked_for_is_told_later_without_being_asked_again() {
    let mut managed = Managed::new(SETTINGS, None);
    let numbers: Vec<u32> = (0..6).map(|_| managed.receive().expect("new")).collect();
    let mut out = Vec::new();
    managed.append_answer(&mut out);
    assert_eq!(out, b"<a xmlns='urn:xmpp:sm:3' h='0'/>");
    assert_eq!(managed.settle(numbers[0]), Settled::Owed);
    for number in &numbers[1..4] {
        assert_eq!(managed.settle(*number), Settled::Owed);
    }
    assert_eq!(managed.settle(numbers[4]), Settled::WriteNow);
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(out, b"<a xmlns='urn:xmpp:sm:3' h='5'/>");
    assert_eq!(managed.settle(numbers[5]), Settled::Owed);
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(out, b"<a xmlns='urn:xmpp:sm:3' h='6'/>");
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert!(out.is_empty(), "everything is told");
}

#[test]
fn acknowledgements_pop_in_order_over_the_wrap() {
    for mut managed in starts() {
        let start = managed.acked;
        for stanza in 0..6 {
            managed.keep(kept(stanza));
        }
        let mut done = Vec::new();
        let mut ack = |h: u32| {
            managed.acknowledge(start.wrapping_add(h), |kept| {
                done.push(kept.token.expect("has one").stanza);
            })
        };
        assert_eq!(ack(4), Ok(()));
        assert_eq!(ack(4), Ok(()), "a repeated h is harmless");
        let too_high = ack(7).expect_err("only six were sent");
        assert_eq!(too_high.sent, start.wrapping_add(6));
        assert_eq!(ack(6), Ok(()));
        assert!(ack(5).is_err(), "h does not go back");
        assert_eq!(done, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn one_request_at_a_time() {
    let mut managed = Managed::new(SETTINGS, None);
    managed.keep(kept(1));
    let mut out = Vec::new();
    managed.append_nonzas(&mut out, Framing::Stream, 5);
    assert_eq!(out, b"<r xmlns='urn:xmpp:sm:3'/>");
    managed.keep(kept(2));
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 6);
    assert!(out.is_empty(), "the first request is not answered");
    managed.acknowledge(1, drop).expect("was sent");
    managed.append_nonzas(&mut out, Framing::Stream, 7);
    assert_eq!(out, b"<r xmlns='urn:xmpp:sm:3'/>");
}

#[test]
fn repeats_after_a_resumption_are_swallowed_and_h_stays_behind_them() {
    for mut managed in starts() {
        let start = managed.tellable();
        let numbers: Vec<u32> = (0..3).map(|_| managed.receive().expect("new")).collect();
        managed.settle(numbers[0]);
        assert_eq!(managed.resume(), start.wrapping_add(1));
        // The other two are settled before the client has repeated them on the new stream.
        managed.settle(numbers[1]);
        managed.settle(numbers[2]);
        assert_eq!(managed.tellable(), start.wrapping_add(1));
        assert_eq!(managed.receive(), None);
        assert_eq!(managed.tellable(), start.wrapping_add(2));
        assert_eq!(managed.receive(), None);
        let fresh = managed.receive().expect("was never read before");
        assert_eq!(fresh, start.wrapping_add(4));
        managed.settle(fresh);
        assert_eq!(managed.tellable(), fresh);
    }
}

#[test]
fn what_is_not_acknowledged_is_sent_again_in_order() {
    let mut managed = Managed::new(SETTINGS, None);
    for stanza in 0..3 {
        managed.keep(kept(stanza));
    }
    managed.acknowledge(1, drop).expect("was sent");
    let mut out = Vec::new();
    managed.resend(&mut out, Framing::Stream);
    let one = message();
    assert_eq!(out, [one.bytes(), one.bytes()].concat());
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(
        out, b"<r xmlns='urn:xmpp:sm:3'/>",
        "the new stream asks anew"
    );
}

#[test]
fn a_full_outbox_gives_the_client_time_and_then_ends() {
    let mut managed = Managed::new(
        Settings {
            buffer_max: 2,
            ..SETTINGS
        },
        None,
    );
    for stanza in 0..3 {
        managed.keep(kept(stanza));
    }
    managed.append_nonzas(&mut Vec::new(), Framing::Stream, 1_000);
    assert!(!managed.is_overdue(1_000 + ACK_WAIT_MS_MAX));
    assert!(managed.is_overdue(1_001 + ACK_WAIT_MS_MAX));
    assert!(!managed.is_over_limit());
    for stanza in 0..u32::try_from(OUTBOX_OVERRUN_MAX).expect("small") {
        managed.keep(kept(stanza));
    }
    assert!(managed.is_over_limit());
}

#[test]
fn a_client_with_too_many_unsettled_stanzas_is_not_read() {
    let mut managed = Managed::new(SETTINGS, None);
    let numbers: Vec<u32> = (0..UNSETTLED_MAX)
        .filter_map(|_| managed.receive())
        .collect();
    assert!(managed.is_congested());
    managed.settle(numbers[0]);
    assert!(!managed.is_congested());
}

#[test]
fn only_empty_queues_are_given_back() {
    let mut managed = Managed::new(SETTINGS, None);
    let number = managed.receive().expect("new");
    managed.keep(kept(1));
    managed.tidy();
    assert_eq!((managed.outbox_len(), managed.unsettled_len()), (1, 1));
    managed.acknowledge(1, drop).expect("was sent");
    managed.settle(number);
    managed.tidy();
    assert_eq!(
        (managed.outbox.capacity(), managed.pending.capacity()),
        (0, 0)
    );
    assert_eq!(managed.tellable(), 1);
}

#[test]
fn without_a_buffer_stanzas_are_counted_and_not_kept() {
    let settings = Settings {
        buffer: false,
        ..SETTINGS
    };
    let mut managed = Managed::new(settings, None);
    for _ in 0..2 {
        managed.count_sent();
    }
    let mut out = Vec::new();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(out, b"<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(managed.acknowledge(1, |_| panic!("none is kept")), Ok(()));
    let too_high = managed.acknowledge(3, |_| panic!("none is kept"));
    assert_eq!(too_high, Err(HandledCountTooHigh { h: 3, sent: 2 }));
    assert_eq!(managed.acknowledge(2, drop), Ok(()));
    assert_eq!(managed.outbox_len(), 0);
}

#[test]
fn who_is_never_asked_is_not_probed_either() {
    for (ack, expected) in [(true, &b"<r xmlns='urn:xmpp:sm:3'/>"[..]), (false, b"")] {
        let mut managed = Managed::new(Settings { ack, ..SETTINGS }, None);
        managed.keep(kept(1));
        let mut out = Vec::new();
        managed.append_nonzas(&mut out, Framing::Stream, 0);
        assert_eq!(out, expected);
        out.clear();
        managed.append_probe(&mut out, 0);
        assert_eq!(out, expected);
    }
}

#[test]
fn what_is_settled_is_told_along_with_whatever_is_written_next() {
    let mut managed = Managed::new(SETTINGS, None);
    let stanza = managed.receive().unwrap();
    assert_eq!(managed.settle(stanza), Settled::Nothing, "nobody has asked");
    let mut out = Vec::new();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(out, b"<a xmlns='urn:xmpp:sm:3' h='1'/>");
    out.clear();
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert!(out.is_empty(), "it is told once");
}

#[test]
fn who_has_asked_is_told_at_once_when_all_is_settled() {
    let mut managed = Managed::new(SETTINGS, None);
    let first = managed.receive().unwrap();
    let second = managed.receive().unwrap();
    let mut out = Vec::new();
    assert!(managed.answer_or_wait(&mut out, 0), "the answer waits");
    assert_eq!(managed.settle(first), Settled::Owed);
    assert_eq!(managed.settle(second), Settled::WriteNow);
    managed.append_nonzas(&mut out, Framing::Stream, 0);
    assert_eq!(out, b"<a xmlns='urn:xmpp:sm:3' h='2'/>");
}
