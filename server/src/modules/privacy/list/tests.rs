use protocol::{Element, ns};

use super::*;

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

#[test]
fn an_address_means_whatever_it_does_not_name() {
    for (address, other, expected) in [
        ("a@b/c", "a@b/c", true),
        ("a@b/c", "a@b/d", false),
        ("a@b/c", "a@b", false),
        ("a@b", "a@b", true),
        ("a@b", "a@b/c", true),
        ("a@b", "d@b/c", false),
        ("a@b", "b", false),
        ("a@b", "a@b.example", false),
        ("b", "b", true),
        ("b", "b/c", true),
        ("b", "a@b", true),
        ("b", "a@b/c", true),
        ("b", "a@c.b", false),
        ("b/c", "b/c", true),
        ("b/c", "b/d", false),
        ("b/c", "b", false),
        ("b/c", "a@b/c", false),
    ] {
        let covers = covers(jid(address).as_ref(), jid(other).as_ref());
        assert_eq!(covers, expected, "{address} {other}");
    }
}

fn item(order: u32, subject: Subject, action: Action, kinds: Kinds) -> Item {
    Item {
        order,
        subject,
        action,
        kinds,
    }
}

fn denied(list: &List, other: &str, relation: &Relation) -> Vec<Passing> {
    let all = [
        Passing::Message,
        Passing::Iq,
        Passing::PresenceIn,
        Passing::PresenceOut,
        Passing::Other,
    ];
    let denies = |passing: &Passing| list.denies(*passing, jid(other).as_ref(), relation);
    all.into_iter().filter(denies).collect()
}

#[test]
fn the_first_item_that_fits_decides() {
    let nurse = || Subject::Address(jid("nurse@b"));
    let messages = Kinds {
        message: true,
        ..Kinds::default()
    };
    let items = vec![
        item(30, Subject::Everybody, Action::Deny, Kinds::ALL),
        item(10, nurse(), Action::Deny, messages),
        item(20, nurse(), Action::Allow, Kinds::ALL),
    ];
    let list = List::new("some", items).unwrap();
    let none = Relation::NONE;
    assert_eq!(denied(&list, "nurse@b/c", &none), [Passing::Message]);
    assert_eq!(denied(&list, "other@b", &none).len(), 5);
    let empty = List::new("empty", Vec::new()).unwrap();
    assert_eq!(denied(&empty, "nurse@b", &none), []);
    assert!(!list.asks_roster() && !empty.asks_roster());
}

#[test]
fn items_about_kinds_say_nothing_of_what_is_sent() {
    let kinds = Kinds {
        all: false,
        iq: true,
        message: true,
        presence_in: true,
        presence_out: true,
    };
    let everybody = item(1, Subject::Everybody, Action::Block, kinds);
    let list = List::new("some", vec![everybody]).unwrap();
    let denied = denied(&list, "a@b", &Relation::NONE);
    assert_eq!(
        denied,
        [
            Passing::Message,
            Passing::Iq,
            Passing::PresenceIn,
            Passing::PresenceOut
        ]
    );
}

#[test]
fn the_roster_is_asked_by_group_and_subscription() {
    let group = item(1, Subject::Group("Foes".into()), Action::Deny, Kinds::ALL);
    let none = Subject::Subscription(Subscription::None);
    let strangers = item(2, none, Action::Deny, Kinds::ALL);
    let list = List::new("some", vec![group, strangers]).unwrap();
    assert!(list.asks_roster() && list.asks_groups());
    let relation = |subscription, groups: &[&str]| Relation {
        subscription,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    for (relation, expected) in [
        (relation(Subscription::Both, &["Friends", "Foes"]), true),
        (relation(Subscription::Both, &["Friends", "foes"]), false),
        (relation(Subscription::To, &[]), false),
        (Relation::NONE, true),
    ] {
        let denies = list.denies(Passing::Message, jid("a@b").as_ref(), &relation);
        assert_eq!(denies, expected, "{relation:?}");
    }
}

#[test]
fn no_two_items_have_the_same_place() {
    let everybody = |order| item(order, Subject::Everybody, Action::Deny, Kinds::ALL);
    assert!(List::new("some", vec![everybody(1), everybody(0)]).is_some());
    assert!(List::new("some", vec![everybody(1), everybody(0), everybody(1)]).is_none());
}

#[test]
fn only_availability_is_presence_to_a_list() {
    for (xml, received, sent) in [
        ("<message type='error'/>", Passing::Message, Passing::Other),
        ("<iq type='result' id='1'/>", Passing::Iq, Passing::Other),
        ("<presence/>", Passing::PresenceIn, Passing::PresenceOut),
        (
            "<presence type='unavailable'/>",
            Passing::PresenceIn,
            Passing::PresenceOut,
        ),
        ("<presence type='probe'/>", Passing::Other, Passing::Other),
        (
            "<presence type='subscribe'/>",
            Passing::Other,
            Passing::Other,
        ),
        ("<presence type='error'/>", Passing::Other, Passing::Other),
    ] {
        let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        let stanza = Stanza::from_element(&element).unwrap();
        assert_eq!(Passing::received(&stanza), received, "{xml}");
        assert_eq!(Passing::sent(&stanza), sent, "{xml}");
    }
}
