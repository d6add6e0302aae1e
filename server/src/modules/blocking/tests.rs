//! What a request may say; the words of the XEP are in `tests/scenarios/blocking.txt`.
use protocol::ns;

use super::*;

fn parse(items: &str) -> Element {
    let xml = format!("<block xmlns='urn:xmpp:blocking'>{items}</block>");
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn items_are_addresses_in_their_normal_form() {
    let check = |items: &str, expected: Result<&[&str], StanzaCondition>| {
        let found = addresses(&parse(items));
        let found = found.map_err(|error| error.condition);
        let found = found.map(|jids| jids.iter().map(|jid| jid.as_str().to_owned()).collect());
        let expected = expected.map(|all| all.iter().map(|&jid| jid.to_owned()).collect());
        assert_eq!(found, expected as Result<Vec<String>, _>, "{items}");
    };
    check("", Ok(&[]));
    check("<item jid='A@B/C'/>text", Ok(&["a@b/C"]));
    check("<item jid='b'/><item jid='a'/>", Ok(&["b", "a"]));
    check(
        "<item jid='a'><report xmlns='urn:xmpp:reporting:1' reason='x'/></item>",
        Ok(&["a"]),
    );
    check("<item/>", Err(StanzaCondition::BadRequest));
    check("<other jid='a'/>", Err(StanzaCondition::BadRequest));
    check(
        "<item xmlns='n' jid='a'/>",
        Err(StanzaCondition::BadRequest),
    );
    check("<item jid=''/>", Err(StanzaCondition::JidMalformed));
    check(
        "<item jid='a'/><item jid='@b'/>",
        Err(StanzaCondition::JidMalformed),
    );
}
