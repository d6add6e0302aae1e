//! What is refused, and that what is kept lasts; the words of the XEPs are in `tests/scenarios/{vcard,search}.txt`.
use super::*;
use crate::modules::testing::{ChatNode, condition, fence};
use crate::testing::Client;

fn vcard(elements: &str) -> Element {
    let xml = format!("<vCard xmlns='vcard-temp'>{elements}</vCard>");
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn what_could_not_be_read_again_is_refused() {
    let check = |elements: &str, expected: bool| {
        let vcard = vcard(elements);
        match to_stored(&vcard) {
            Ok(xml) => {
                assert!(expected, "{elements:.80}");
                assert_eq!(Element::parse(xml.as_bytes(), ns::VCARD).unwrap(), vcard);
            }
            Err(error) => {
                assert!(!expected, "{elements:.80}");
                assert_eq!(error.condition, StanzaCondition::PolicyViolation);
            }
        }
    };
    check("", true);
    check("<FN>Juliet &amp; \u{1f9a1}</FN><x xmlns='other'/>", true);
    let photo = |bytes: usize| format!("<PHOTO><BINVAL>{}</BINVAL></PHOTO>", "x".repeat(bytes));
    check(&photo(60_000), true);
    check(&photo(70_000), false);
    // A namespace is named once and then said by each of many.
    let many = "<p:b/>".repeat(2_000);
    let long = "m".repeat(1_000);
    check(&format!("<a xmlns:p='{long}'>{many}</a>"), false);
}

async fn ask(client: &mut Client, kind: &str, to: &str, vcard: &Element) -> Element {
    let vcard = vcard.to_xml();
    client
        .send(&format!("<iq type='{kind}' id='v' to='{to}'>{vcard}</iq>"))
        .await;
    let came = fence(client).await;
    let answer = came
        .into_iter()
        .find(|stanza| stanza.attr("id") == Some("v"));
    answer.unwrap()
}

/// Security case R25, as far as vCards go.
#[tokio::test]
async fn a_vcard_is_as_large_as_it_may_be_and_its_owners_alone() {
    let chat = ChatNode::start_with(&["romeo", "juliet"], |_| {}).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let (mine, theirs) = ("romeo@localhost", "juliet@localhost");
    let small = vcard("<FN>Romeo</FN>");
    let answer = ask(&mut romeo, "set", mine, &small).await;
    assert_eq!(answer.attr("type"), Some("result"));
    // Not large as it is sent, but as each element says its namespace.
    let short = format!(
        "<vCard xmlns='vcard-temp'><a xmlns:p='{}'>{}</a></vCard>",
        "m".repeat(1_000),
        "<p:b/>".repeat(200)
    );
    romeo
        .send(&format!("<iq type='set' id='v'>{short}</iq>"))
        .await;
    let came = fence(&mut romeo).await;
    assert_eq!(condition(&came[0]), Some("policy-violation"));
    for other in [theirs, "nobody@localhost"] {
        let answer = ask(&mut romeo, "set", other, &small).await;
        assert_eq!(condition(&answer), Some("forbidden"), "{other}");
        let answer = ask(&mut romeo, "get", other, &vcard("")).await;
        assert_eq!(condition(&answer), Some("service-unavailable"), "{other}");
    }
    let answer = ask(&mut romeo, "get", mine, &vcard("")).await;
    assert_eq!(answer.elements().next(), Some(&small));
    chat.stop().await;
}

#[tokio::test]
async fn an_account_without_a_row_keeps_no_vcard() {
    let chat = ChatNode::start(&[]).await;
    let mut guest = Client::anonymous(chat.node.address).await;
    let own = guest.jid.split('/').next().unwrap().to_owned();
    let answer = ask(&mut guest, "set", &own, &vcard("<FN>Nobody</FN>")).await;
    assert_eq!(condition(&answer), Some("not-allowed"));
    let answer = ask(&mut guest, "get", &own, &vcard("")).await;
    assert_eq!(answer.elements().next(), Some(&vcard("")));
    chat.stop().await;
}

#[tokio::test]
async fn there_is_no_directory_unless_it_is_wanted() {
    let chat = ChatNode::start_with(&["romeo"], |host| {
        let config = host.modules.vcard.as_mut().unwrap();
        config.search = false;
    })
    .await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let answer = ask(&mut romeo, "get", "vjud.localhost", &vcard("")).await;
    assert_eq!(condition(&answer), Some("remote-server-not-found"));
    let answer = ask(&mut romeo, "get", "localhost", &vcard("")).await;
    assert_eq!(answer.attr("type"), Some("result"));
    chat.stop().await;
}
