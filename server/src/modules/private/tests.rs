//! What is refused, and that what is kept lasts; the words of the XEP are in `tests/scenarios/private.txt`.
use super::*;
use crate::modules::testing::{ChatNode, condition, fence};
use crate::testing::Client;

fn query(elements: &str) -> Element {
    let xml = format!("<query xmlns='jabber:iq:private'>{elements}</query>");
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn a_request_has_one_element_with_a_namespace_of_its_own() {
    let check = |elements: &str, expected: Option<&str>| {
        let query = query(elements);
        let found = only_element(&query);
        let namespace = found.as_ref().ok().map(|element| element.ns());
        assert_eq!(namespace, expected, "{elements}");
        if let Err(error) = found {
            assert_eq!(error.condition, StanzaCondition::NotAcceptable);
        }
    };
    check("<a xmlns='n'/>", Some("n"));
    check("text<p:a xmlns:p='n'><b/></p:a>", Some("n"));
    check("", None);
    check("text", None);
    check("<a/>", None);
    check("<a xmlns=''/>", None);
    check("<a xmlns='jabber:client'/>", None);
    check("<a xmlns='n'/><b xmlns='n'/>", None);
    let name = "n".repeat(NAMESPACE_BYTES_MAX);
    check(&format!("<a xmlns='{name}'/>"), Some(&name));
    check(&format!("<a xmlns='{name}n'/>"), None);
}

#[test]
fn what_could_not_be_read_again_is_refused() {
    let check = |elements: String, expected: bool| {
        let query = query(&elements);
        let stored = to_stored(query.elements().next().unwrap());
        assert_eq!(stored.is_ok(), expected, "{:.80}", elements);
        match stored {
            Ok(xml) => {
                let read = Element::parse(xml.as_bytes(), ns::PRIVATE).unwrap();
                assert_eq!(Some(&read), query.elements().next());
            }
            Err(error) => assert_eq!(error.condition, StanzaCondition::PolicyViolation),
        }
    };
    check("<a xmlns='n'>text</a>".to_owned(), true);
    check(format!("<a xmlns='n'>{}</a>", "x".repeat(60_000)), true);
    check(format!("<a xmlns='n'>{}</a>", "x".repeat(300_000)), false);
    // A namespace is named once and then said by each of many.
    let many = "<p:b/>".repeat(2_000);
    let long = "m".repeat(1_000);
    check(format!("<a xmlns='n' xmlns:p='{long}'>{many}</a>"), false);
    check(format!("<a xmlns='n' xmlns:p='m'>{many}</a>"), true);
    let crowded = "<b p:a='1' q:a='1' r:a='1'/>".repeat(1_500);
    let names = "xmlns:p='p' xmlns:q='q' xmlns:r='r'";
    check(format!("<a xmlns='n' {names}>{crowded}</a>"), false);
}

async fn ask(client: &mut Client, kind: &str, element: &str) -> Element {
    let query = query(element).to_xml();
    client
        .send(&format!("<iq type='{kind}' id='p'>{query}</iq>"))
        .await;
    let came = fence(client).await;
    let answer = came
        .into_iter()
        .find(|stanza| stanza.attr("id") == Some("p"));
    answer.unwrap()
}

/// Security case R25, as far as private storage goes.
#[tokio::test]
async fn a_thousand_namespaces_are_not_kept() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let mut refused = 0;
    for index in 0..1_000 {
        let answer = ask(&mut romeo, "set", &format!("<a xmlns='n{index}'/>")).await;
        if answer.attr("type") == Some("error") {
            assert_eq!(condition(&answer), Some("policy-violation"));
            refused += 1;
        }
    }
    assert_eq!(refused, 900);
    chat.stop().await;
}

#[tokio::test]
async fn an_account_without_a_row_keeps_nothing() {
    let chat = ChatNode::start(&[]).await;
    let mut guest = Client::anonymous(chat.node.address).await;
    let answer = ask(&mut guest, "set", "<a xmlns='n'/>").await;
    assert_eq!(condition(&answer), Some("not-allowed"));
    let answer = ask(&mut guest, "get", "<a xmlns='n'/>").await;
    assert_eq!(answer.attr("type"), Some("result"));
    chat.stop().await;
}
