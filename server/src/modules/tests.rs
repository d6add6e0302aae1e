//! Whatever a request looks like, it gets one answer, and the stream goes on (security case N10).
use std::collections::BTreeMap;

use protocol::{Element, ns};

use super::testing::{ChatNode, fence};

/// Requests as they should be.
const GOOD: [&str; 6] = [
    "<query xmlns='jabber:iq:roster' ver='v'/>",
    "<query xmlns='jabber:iq:roster'><item jid='nurse@localhost' name='Nurse' subscription='none' ask='subscribe'>\
     <group>Servants</group><group/></item></query>",
    "<query xmlns='jabber:iq:roster'><item jid='nurse@localhost' subscription='remove'/></query>",
    "<ping xmlns='urn:xmpp:ping'/>",
    "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>",
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>other</resource></bind>",
];

/// What stands in the place of a value.
const VALUES: [&str; 6] = ["", " ", "@", "a b@/", "\u{1f9a1}", "-1"];

/// The element with one thing changed, in every way that we know of, at every level.
fn spoilt(element: &Element) -> Vec<Element> {
    let mut all = Vec::new();
    for name in ["jid", "name", "subscription", "ask", "ver", "unknown"] {
        all.push(with_attr(element, name, None));
        for value in VALUES {
            all.push(with_attr(element, name, Some(value)));
        }
        all.push(with_attr(element, name, Some(&"x".repeat(3_000))));
    }
    let mut other_ns = Element::new(element.name(), "urn:example:unknown");
    element
        .elements()
        .for_each(|child| other_ns.push(child.clone()));
    all.push(other_ns);
    all.push(
        element
            .clone()
            .with_child(Element::new("unknown", element.ns().to_owned())),
    );
    all.push(element.clone().with_text("text"));
    let children: Vec<Element> = element.elements().cloned().collect();
    for index in 0..children.len() {
        all.push(with_children(element, |kept| _ = kept.remove(index)));
        all.push(with_children(element, |kept| {
            kept.push(children[index].clone())
        }));
        for spoilt_child in spoilt(&children[index]) {
            all.push(with_children(element, |kept| {
                kept[index] = spoilt_child.clone()
            }));
        }
    }
    all
}

fn with_attr(element: &Element, name: &str, value: Option<&str>) -> Element {
    let mut changed = element.clone();
    changed.set_attr(name, value);
    changed
}

fn with_children(element: &Element, change: impl FnOnce(&mut Vec<Element>)) -> Element {
    let mut children: Vec<Element> = element.elements().cloned().collect();
    change(&mut children);
    let mut changed = element.clone();
    changed.retain_elements(|_| false);
    children.into_iter().for_each(|child| changed.push(child));
    changed
}

#[tokio::test]
async fn n10_every_request_gets_one_answer_however_it_is_spoilt() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut requests = Vec::new();
    for good in GOOD {
        let good = Element::parse(good.as_bytes(), ns::CLIENT).unwrap();
        let mut payloads = spoilt(&good);
        payloads.push(good);
        for payload in payloads {
            let mut iq = Element::new("iq", ns::CLIENT).with_child(payload);
            let number = requests.len();
            iq.set_attr("id", Some(&number.to_string()));
            iq.set_attr("type", Some(["get", "set", "set", "strange"][number % 4]));
            let to = [
                None,
                Some("romeo@localhost"),
                Some("localhost"),
                Some("juliet@localhost"),
            ];
            iq.set_attr("to", to[number / 4 % 4]);
            requests.push(iq);
        }
    }
    assert!(requests.len() > 300, "{} requests", requests.len());
    let mut answers = BTreeMap::new();
    for some in requests.chunks(50) {
        let text: String = some.iter().map(Element::to_xml).collect();
        romeo.send(&text).await;
        for answer in fence(&mut romeo).await {
            let is_push = answer.name() == "iq" && answer.attr("type") == Some("set");
            if answer.name() == "iq" && !is_push {
                let id: usize = answer.attr("id").unwrap().parse().unwrap();
                answers.entry(id).or_insert_with(Vec::new).push(answer);
            }
        }
    }
    for (number, request) in requests.iter().enumerate() {
        let answers = answers.remove(&number).unwrap_or_default();
        let [answer] = &answers[..] else {
            panic!("{} has {} answers", request.to_xml(), answers.len());
        };
        let answer_type = answer.attr("type");
        assert!(
            matches!(answer_type, Some("result" | "error")),
            "{}",
            answer.to_xml()
        );
        let is_request = matches!(request.attr("type"), Some("get" | "set"));
        assert!(
            is_request || answer_type == Some("error"),
            "{}",
            answer.to_xml()
        );
    }
    assert!(answers.is_empty(), "nobody asked for {answers:?}");
    chat.stop().await;
}
