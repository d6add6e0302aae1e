//! The tables of RFC 6121 appendix A as data: one row per cell, in the order of the RFC.
use super::SubscriptionType::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use super::*;

const MUST: bool = true;
const MUST_NOT: bool = false;

/// State before, whether the stanza is routed or delivered, state after.
type Table = [(State, bool, State); 9];

/// A.2.1.
const OUTBOUND_SUBSCRIBE: Table = [
    (State::None, MUST, State::NonePendingOut),
    (State::NonePendingOut, MUST, State::NonePendingOut),
    (State::NonePendingIn, MUST, State::NonePendingOutIn),
    (State::NonePendingOutIn, MUST, State::NonePendingOutIn),
    (State::To, MUST, State::To),
    (State::ToPendingIn, MUST, State::ToPendingIn),
    (State::From, MUST, State::FromPendingOut),
    (State::FromPendingOut, MUST, State::FromPendingOut),
    (State::Both, MUST, State::Both),
];

/// A.2.2.
const OUTBOUND_UNSUBSCRIBE: Table = [
    (State::None, MUST, State::None),
    (State::NonePendingOut, MUST, State::None),
    (State::NonePendingIn, MUST, State::NonePendingIn),
    (State::NonePendingOutIn, MUST, State::NonePendingIn),
    (State::To, MUST, State::None),
    (State::ToPendingIn, MUST, State::NonePendingIn),
    (State::From, MUST, State::From),
    (State::FromPendingOut, MUST, State::From),
    (State::Both, MUST, State::From),
];

/// A.2.3.
const OUTBOUND_SUBSCRIBED: Table = [
    (State::None, MUST_NOT, State::None),
    (State::NonePendingOut, MUST_NOT, State::NonePendingOut),
    (State::NonePendingIn, MUST, State::From),
    (State::NonePendingOutIn, MUST, State::FromPendingOut),
    (State::To, MUST_NOT, State::To),
    (State::ToPendingIn, MUST, State::Both),
    (State::From, MUST_NOT, State::From),
    (State::FromPendingOut, MUST_NOT, State::FromPendingOut),
    (State::Both, MUST_NOT, State::Both),
];

/// A.2.4.
const OUTBOUND_UNSUBSCRIBED: Table = [
    (State::None, MUST_NOT, State::None),
    (State::NonePendingOut, MUST_NOT, State::NonePendingOut),
    (State::NonePendingIn, MUST, State::None),
    (State::NonePendingOutIn, MUST, State::NonePendingOut),
    (State::To, MUST_NOT, State::To),
    (State::ToPendingIn, MUST, State::To),
    (State::From, MUST, State::None),
    (State::FromPendingOut, MUST, State::NonePendingOut),
    (State::Both, MUST, State::To),
];

/// A.3.1.
const INBOUND_SUBSCRIBE: Table = [
    (State::None, MUST, State::NonePendingIn),
    (State::NonePendingOut, MUST, State::NonePendingOutIn),
    (State::NonePendingIn, MUST_NOT, State::NonePendingIn),
    (State::NonePendingOutIn, MUST_NOT, State::NonePendingOutIn),
    (State::To, MUST, State::ToPendingIn),
    (State::ToPendingIn, MUST_NOT, State::ToPendingIn),
    (State::From, MUST_NOT, State::From),
    (State::FromPendingOut, MUST_NOT, State::FromPendingOut),
    (State::Both, MUST_NOT, State::Both),
];

/// A.3.2.
const INBOUND_UNSUBSCRIBE: Table = [
    (State::None, MUST_NOT, State::None),
    (State::NonePendingOut, MUST_NOT, State::NonePendingOut),
    (State::NonePendingIn, MUST, State::None),
    (State::NonePendingOutIn, MUST, State::NonePendingOut),
    (State::To, MUST_NOT, State::To),
    (State::ToPendingIn, MUST, State::To),
    (State::From, MUST, State::None),
    (State::FromPendingOut, MUST, State::NonePendingOut),
    (State::Both, MUST, State::To),
];

/// A.3.3.
const INBOUND_SUBSCRIBED: Table = [
    (State::None, MUST_NOT, State::None),
    (State::NonePendingOut, MUST, State::To),
    (State::NonePendingIn, MUST_NOT, State::NonePendingIn),
    (State::NonePendingOutIn, MUST, State::ToPendingIn),
    (State::To, MUST_NOT, State::To),
    (State::ToPendingIn, MUST_NOT, State::ToPendingIn),
    (State::From, MUST_NOT, State::From),
    (State::FromPendingOut, MUST, State::Both),
    (State::Both, MUST_NOT, State::Both),
];

/// A.3.4.
const INBOUND_UNSUBSCRIBED: Table = [
    (State::None, MUST_NOT, State::None),
    (State::NonePendingOut, MUST, State::None),
    (State::NonePendingIn, MUST_NOT, State::NonePendingIn),
    (State::NonePendingOutIn, MUST, State::NonePendingIn),
    (State::To, MUST, State::None),
    (State::ToPendingIn, MUST, State::NonePendingIn),
    (State::From, MUST_NOT, State::From),
    (State::FromPendingOut, MUST, State::From),
    (State::Both, MUST, State::From),
];

const OUTBOUND: [(SubscriptionType, Table); 4] = [
    (Subscribe, OUTBOUND_SUBSCRIBE),
    (Unsubscribe, OUTBOUND_UNSUBSCRIBE),
    (Subscribed, OUTBOUND_SUBSCRIBED),
    (Unsubscribed, OUTBOUND_UNSUBSCRIBED),
];

const INBOUND: [(SubscriptionType, Table); 4] = [
    (Subscribe, INBOUND_SUBSCRIBE),
    (Unsubscribe, INBOUND_UNSUBSCRIBE),
    (Subscribed, INBOUND_SUBSCRIBED),
    (Unsubscribed, INBOUND_UNSUBSCRIBED),
];

/// An item of the roster in this state.
fn listed(state: State) -> Contact {
    Contact {
        state,
        approved: false,
        listed: true,
    }
}

fn approved(state: State) -> Contact {
    Contact {
        approved: true,
        ..listed(state)
    }
}

/// A contact that has only asked.
const REQUESTER: Contact = Contact {
    state: State::NonePendingIn,
    approved: false,
    listed: false,
};

/// What a client sees: pushes follow from it.
fn shown(contact: Contact) -> (&'static str, bool, bool) {
    (
        contact.state.subscription().as_str(),
        contact.state.is_pending_out(),
        contact.approved,
    )
}

#[test]
fn the_tables_name_every_state_once() {
    for (stanza, table) in OUTBOUND.into_iter().chain(INBOUND) {
        assert_eq!(table.map(|(before, ..)| before), State::ALL, "{stanza:?}");
    }
}

#[test]
fn every_cell_of_the_outbound_tables() {
    for (stanza, table) in OUTBOUND {
        for (before, route, after) in table {
            let cell = format!("outbound {} in {before:?}", stanza.as_str());
            assert_eq!(before.outbound(stanza), (after, route), "{cell}");
            let decided = outbound(listed(before), stanza);
            assert_eq!(
                (decided.contact.state, decided.route),
                (after, route),
                "{cell}"
            );
            let pushed = shown(decided.contact) != shown(listed(before));
            assert_eq!(decided.push, pushed, "{cell}");
        }
    }
}

#[test]
fn every_cell_of_the_inbound_tables() {
    for (stanza, table) in INBOUND {
        for (before, deliver, after) in table {
            let cell = format!("inbound {} in {before:?}", stanza.as_str());
            assert_eq!(before.inbound(stanza), (after, deliver), "{cell}");
            let decided = inbound(listed(before), stanza);
            assert_eq!(
                (decided.contact.state, decided.deliver),
                (after, deliver),
                "{cell}"
            );
            let pushed = shown(decided.contact) != shown(listed(before));
            assert_eq!(decided.push, pushed, "{cell}");
            assert_eq!(
                decided.keep_request,
                stanza == Subscribe && deliver,
                "{cell}"
            );
        }
    }
}

/// A.3.1, footnote: a request of somebody who is subscribed. A.3.2, footnote: an end of a subscription or request.
#[test]
fn the_server_replies_for_the_user() {
    let replies = |stanza| State::ALL.map(|state| inbound(listed(state), stanza).reply);
    let when = |states: [bool; 9], reply| states.map(|is_sent| is_sent.then_some(reply));
    let (no, yes) = (false, true);
    assert_eq!(
        replies(Subscribe),
        when([no, no, no, no, no, no, yes, yes, yes], Subscribed)
    );
    assert_eq!(
        replies(Unsubscribe),
        when([no, no, yes, yes, no, yes, yes, yes, yes], Unsubscribed)
    );
    assert_eq!(replies(Subscribed), [None; 9]);
    assert_eq!(replies(Unsubscribed), [None; 9]);
}

#[test]
fn presence_goes_along_exactly_when_the_contact_starts_or_stops_to_see_it() {
    use Share::{Available, Unavailable};
    let outbound = |stanza| State::ALL.map(|state| outbound(listed(state), stanza).share);
    let inbound = |stanza| State::ALL.map(|state| inbound(listed(state), stanza).share);
    let nothing = [None; 9];
    let (start, stop) = (Some(Available), Some(Unavailable));
    assert_eq!(outbound(Subscribe), nothing);
    assert_eq!(outbound(Unsubscribe), nothing);
    assert_eq!(
        outbound(Subscribed),
        [None, None, start, start, None, start, None, None, None]
    );
    assert_eq!(
        outbound(Unsubscribed),
        [None, None, None, None, None, None, stop, stop, stop]
    );
    assert_eq!(inbound(Subscribe), nothing);
    assert_eq!(
        inbound(Unsubscribe),
        [None, None, None, None, None, None, stop, stop, stop]
    );
    assert_eq!(inbound(Subscribed), nothing);
    assert_eq!(inbound(Unsubscribed), nothing);
}

/// Section 3.4.2, by the state of the item.
#[test]
fn an_approval_in_advance_is_noted_pushed_and_not_routed() {
    for state in [State::None, State::NonePendingOut, State::To] {
        let decided = outbound(listed(state), Subscribed);
        assert_eq!(
            decided,
            Outbound {
                contact: approved(state),
                route: false,
                push: true,
                share: None
            },
            "{state:?}"
        );
        let again = outbound(approved(state), Subscribed);
        assert_eq!(
            again,
            Outbound {
                contact: approved(state),
                route: false,
                push: false,
                share: None
            },
            "{state:?}"
        );
    }
    for state in [
        State::NonePendingIn,
        State::NonePendingOutIn,
        State::ToPendingIn,
    ] {
        let decided = outbound(listed(state), Subscribed);
        assert!(
            decided.route && decided.push && !decided.contact.approved,
            "{state:?}"
        );
    }
    for state in [State::From, State::FromPendingOut, State::Both] {
        let ignored = Outbound {
            contact: listed(state),
            route: false,
            push: false,
            share: None,
        };
        assert_eq!(outbound(listed(state), Subscribed), ignored, "{state:?}");
    }
    let unknown = outbound(Contact::UNKNOWN, Subscribed);
    assert_eq!(
        unknown,
        Outbound {
            contact: approved(State::None),
            route: false,
            push: true,
            share: None
        }
    );
}

#[test]
fn an_approval_in_advance_answers_one_request() {
    let cases = [
        (State::None, State::From),
        (State::NonePendingOut, State::FromPendingOut),
        (State::To, State::Both),
    ];
    for (before, after) in cases {
        let decided = inbound(approved(before), Subscribe);
        let expected = Inbound {
            contact: listed(after),
            deliver: false,
            keep_request: false,
            push: true,
            reply: Some(Subscribed),
            share: Some(Share::Available),
        };
        assert_eq!(decided, expected, "{before:?}");
    }
}

/// Section 3.2.2: the approval is taken back, and nobody learns of it.
#[test]
fn an_approval_in_advance_can_be_cancelled() {
    for state in [State::None, State::NonePendingOut, State::To] {
        let decided = outbound(approved(state), Unsubscribed);
        assert_eq!(
            decided,
            Outbound {
                contact: listed(state),
                route: false,
                push: true,
                share: None
            },
            "{state:?}"
        );
    }
}

#[test]
fn an_approval_in_advance_outlives_changes_of_the_other_direction() {
    let to_none = outbound(approved(State::To), Unsubscribe);
    assert_eq!(to_none.contact, approved(State::None));
    assert_eq!(
        inbound(approved(State::To), Unsubscribed).contact,
        approved(State::None)
    );
    assert_eq!(
        inbound(approved(State::NonePendingOut), Subscribed).contact,
        approved(State::To)
    );
    assert_eq!(
        outbound(approved(State::None), Subscribe).contact,
        approved(State::NonePendingOut)
    );
}

/// Appendix A.1, "None + Pending In", and section 3.1.3.
#[test]
fn a_request_of_a_stranger_makes_no_item() {
    let asked = inbound(Contact::UNKNOWN, Subscribe);
    assert_eq!(asked.contact, REQUESTER);
    assert!(asked.deliver && asked.keep_request && !asked.push);
    let again = inbound(REQUESTER, Subscribe);
    assert_eq!(again.contact, REQUESTER);
    assert!(!again.deliver && !again.keep_request && !again.push);
    let taken_back = inbound(REQUESTER, Unsubscribe);
    assert!(taken_back.contact.is_unknown() && taken_back.deliver && !taken_back.push);
    let denied = outbound(REQUESTER, Unsubscribed);
    assert!(denied.contact.is_unknown() && denied.route && !denied.push);
}

#[test]
fn an_answer_or_a_request_of_the_user_makes_an_item() {
    let accepted = outbound(REQUESTER, Subscribed);
    assert_eq!(accepted.contact, listed(State::From));
    assert!(accepted.route && accepted.push);
    assert_eq!(accepted.share, Some(Share::Available));
    let asked = outbound(Contact::UNKNOWN, Subscribe);
    assert_eq!(asked.contact, listed(State::NonePendingOut));
    assert!(asked.route && asked.push);
    let asked_back = outbound(REQUESTER, Subscribe);
    assert_eq!(asked_back.contact, listed(State::NonePendingOutIn));
    assert!(asked_back.route && asked_back.push);
}

#[test]
fn a_request_for_an_item_of_the_roster_is_not_pushed() {
    let asked = inbound(listed(State::None), Subscribe);
    assert_eq!(asked.contact, listed(State::NonePendingIn));
    assert!(asked.deliver && !asked.push);
}

#[test]
fn strangers_leave_no_trace() {
    for stanza in [Subscribed, Unsubscribe, Unsubscribed] {
        let decided = inbound(Contact::UNKNOWN, stanza);
        assert!(
            decided.contact.is_unknown() && !decided.deliver && !decided.push,
            "{stanza:?}"
        );
        assert_eq!((decided.reply, decided.share), (None, None), "{stanza:?}");
    }
    for stanza in [Unsubscribe, Unsubscribed] {
        let decided = outbound(Contact::UNKNOWN, stanza);
        assert!(decided.contact.is_unknown() && !decided.push, "{stanza:?}");
    }
}

/// Section 2.5.2.
#[test]
fn a_removed_contact_is_unsubscribed_both_ways() {
    let sent = |state| {
        let removal = removal(listed(state));
        (
            removal.unsubscribe,
            removal.unsubscribed,
            removal.share.is_some(),
        )
    };
    let (no, yes) = (false, true);
    let expected = [
        (no, no, no),    // None
        (yes, no, no),   // None + Pending Out
        (no, yes, no),   // None + Pending In
        (yes, yes, no),  // None + Pending Out+In
        (yes, no, no),   // To
        (yes, yes, no),  // To + Pending In
        (no, yes, yes),  // From
        (yes, yes, yes), // From + Pending Out
        (yes, yes, yes), // Both
    ];
    assert_eq!(State::ALL.map(sent), expected);
}

/// Two servers that follow the tables: whatever the users do, their views agree when nothing is under way.
#[test]
fn two_sides_stay_consistent_through_every_sequence_of_four_steps() {
    let stanzas = [Subscribe, Subscribed, Unsubscribe, Unsubscribed];
    let steps: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|side| stanzas.map(|stanza| (side, stanza)))
        .collect();
    for a in &steps {
        for b in &steps {
            for c in &steps {
                for d in &steps {
                    let mut sides = [Contact::UNKNOWN; 2];
                    for (side, stanza) in [a, b, c, d] {
                        send(&mut sides, usize::from(*side), *stanza);
                        check_agreement(sides, &format!("{a:?} {b:?} {c:?} {d:?}: {sides:?}"));
                    }
                }
            }
        }
    }
}

fn send(sides: &mut [Contact; 2], sender: usize, stanza: SubscriptionType) {
    let decided = outbound(sides[sender], stanza);
    sides[sender] = decided.contact;
    if decided.route {
        receive(sides, 1 - sender, stanza);
    }
}

fn receive(sides: &mut [Contact; 2], receiver: usize, stanza: SubscriptionType) {
    let decided = inbound(sides[receiver], stanza);
    sides[receiver] = decided.contact;
    if let Some(reply) = decided.reply {
        receive(sides, 1 - receiver, reply);
    }
}

fn check_agreement(sides: [Contact; 2], case: &str) {
    for (one, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
        assert_eq!(one.state.has_to(), other.state.has_from(), "{case}");
        assert_eq!(
            one.state.is_pending_out(),
            other.state.is_pending_in(),
            "{case}"
        );
    }
}

#[test]
fn only_presence_about_subscriptions_counts() {
    let pairs = [
        (StanzaType::Subscribe, Some(Subscribe)),
        (StanzaType::Subscribed, Some(Subscribed)),
        (StanzaType::Unsubscribe, Some(Unsubscribe)),
        (StanzaType::Unsubscribed, Some(Unsubscribed)),
        (StanzaType::Available, None),
        (StanzaType::Unavailable, None),
        (StanzaType::Probe, None),
        (StanzaType::Error, None),
    ];
    for (stanza_type, expected) in pairs {
        assert_eq!(SubscriptionType::from_stanza_type(stanza_type), expected);
    }
}

#[test]
fn a_state_is_the_sum_of_its_parts() {
    for state in State::ALL {
        assert_eq!(
            State::new(
                state.subscription(),
                state.is_pending_out(),
                state.is_pending_in()
            ),
            state
        );
    }
}
