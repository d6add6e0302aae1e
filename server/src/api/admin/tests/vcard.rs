//! Category `vcard`: each field of the schema, as its clients see it.
use super::*;

/// All fields, as they are set and as they are got.
const FULL: &str = r#"{
    "formattedName": "Romeo <3 Montague",
    "nameComponents": {"family": "Montague", "givenName": "Romeo", "middleName": "M", "prefix": "Sir", "suffix": "Jr"},
    "nickname": ["Rome", "Meo"],
    "photo": [{"type": "image/png", "binValue": "iVBO"}, {"extValue": "https://example.org/p.png"}],
    "birthday": ["1476-09-08"],
    "address": [{"tags": ["HOME", "WORK", "POSTAL", "PARCEL", "DOM", "PREF", "INTL"], "pobox": "1", "extadd": "2",
        "street": "Via", "locality": "Verona", "region": "Veneto", "pcode": "37121", "country": "Italia"}],
    "label": [{"tags": ["HOME"], "line": ["Via 1", "Verona"]}],
    "telephone": [{"tags": ["HOME", "WORK", "VOICE", "FAX", "PAGER", "MSG", "CELL", "VIDEO", "BBS", "MODEM", "ISDN",
        "PCS", "PREF"], "number": "+39 1"}],
    "email": [{"tags": ["HOME", "WORK", "INTERNET", "PREF", "X400"], "userId": "romeo@example.org"}],
    "jabberId": ["romeo@localhost"], "mailer": ["mutt"], "timeZone": ["+01:00"],
    "geo": [{"lat": "45.4", "lon": "10.9"}],
    "title": ["Heir"], "role": ["Lover"],
    "logo": [{"type": "image/gif", "binValue": "R0lG"}],
    "agent": [{"extValue": "https://example.org/benvolio"}],
    "org": [{"orgname": "Montague", "orgunit": ["House", "Heirs"]}],
    "categories": [{"keyword": ["love", "swords"]}],
    "note": ["a & b"], "prodId": ["meerkatctl"], "rev": ["2026-01-01"], "sortString": ["montague"],
    "sound": [{"phonetic": "ro-meo"}, {"binValue": "AAAA"}, {"extValue": "https://example.org/s.ogg"}],
    "uid": ["u1"], "url": ["https://example.org"], "desc": ["d"],
    "class": [{"tags": ["PUBLIC", "PRIVATE", "CONFIDENTIAL"]}],
    "key": [{"type": "pgp", "credential": "K"}]
}"#;

/// The same as XEP-0054 has it.
const FULL_XML: &str = "<vCard xmlns='vcard-temp'><FN>Romeo &lt;3 Montague</FN><N><FAMILY>Montague</FAMILY><GIVEN>Romeo\
    </GIVEN><MIDDLE>M</MIDDLE><PREFIX>Sir</PREFIX><SUFFIX>Jr</SUFFIX></N><NICKNAME>Rome</NICKNAME><NICKNAME>Meo\
    </NICKNAME><PHOTO><TYPE>image/png</TYPE><BINVAL>iVBO</BINVAL></PHOTO><PHOTO><EXTVAL>https://example.org/p.png\
    </EXTVAL></PHOTO><BDAY>1476-09-08</BDAY><ADR><HOME/><WORK/><POSTAL/><PARCEL/><DOM/><PREF/><INTL/><POBOX>1</POBOX>\
    <EXTADD>2</EXTADD><STREET>Via</STREET><LOCALITY>Verona</LOCALITY><REGION>Veneto</REGION><PCODE>37121</PCODE>\
    <CTRY>Italia</CTRY></ADR><LABEL><HOME/><LINE>Via 1</LINE><LINE>Verona</LINE></LABEL><TEL><HOME/><WORK/><VOICE/>\
    <FAX/><PAGER/><MSG/><CELL/><VIDEO/><BBS/><MODEM/><ISDN/><PCS/><PREF/><NUMBER>+39 1</NUMBER></TEL><EMAIL><HOME/>\
    <WORK/><INTERNET/><PREF/><X400/><USERID>romeo@example.org</USERID></EMAIL><JABBERID>romeo@localhost</JABBERID>\
    <MAILER>mutt</MAILER><TZ>+01:00</TZ><GEO><LAT>45.4</LAT><LON>10.9</LON></GEO><TITLE>Heir</TITLE><ROLE>Lover</ROLE>\
    <LOGO><TYPE>image/gif</TYPE><BINVAL>R0lG</BINVAL></LOGO><AGENT><EXTVAL>https://example.org/benvolio</EXTVAL>\
    </AGENT><ORG><ORGNAME>Montague</ORGNAME><ORGUNIT>House</ORGUNIT><ORGUNIT>Heirs</ORGUNIT></ORG><CATEGORIES>\
    <KEYWORD>love</KEYWORD><KEYWORD>swords</KEYWORD></CATEGORIES><NOTE>a &amp; b</NOTE><PRODID>meerkatctl</PRODID>\
    <REV>2026-01-01</REV><SORT-STRING>montague</SORT-STRING><SOUND><PHONETIC>ro-meo</PHONETIC></SOUND><SOUND>\
    <BINVAL>AAAA</BINVAL></SOUND><SOUND><EXTVAL>https://example.org/s.ogg</EXTVAL></SOUND><UID>u1</UID>\
    <URL>https://example.org</URL><CLASS><PUBLIC/><PRIVATE/><CONFIDENTIAL/></CLASS><KEY><TYPE>pgp</TYPE><CRED>K</CRED>\
    </KEY><DESC>d</DESC></vCard>";

fn user(user: &str) -> Value {
    json!({ "user": user })
}

fn set(vcard: Value) -> Value {
    json!({ "user": ROMEO, "vcard": vcard })
}

/// A vCard with what it must have, and one field more.
fn with(name: &str, value: Value) -> Value {
    json!({ "formattedName": "R", "nameComponents": {}, name: value })
}

#[tokio::test]
async fn all_of_a_vcard_is_set_and_got() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    let full: Value = serde_json::from_str(FULL).unwrap();
    let answered = run(&chat, "vcard", "setVcard", set(full.clone())).await;
    assert_eq!(answered, full);
    assert_eq!(run(&chat, "vcard", "getVcard", user(ROMEO)).await, full);
    romeo
        .send("<iq type='get' id='v'><vCard xmlns='vcard-temp'/></iq>")
        .await;
    let answer = romeo.expect("iq").await;
    let expected = Element::parse(FULL_XML.as_bytes(), "").unwrap();
    assert_eq!(answer.elements().next(), Some(&expected));
    let searched =
        "SELECT lfn, lgiven, lctry, lorgunit FROM vcard_search WHERE lusername = 'romeo'";
    let found = fetch_raw(&chat.db, searched).await;
    let expected = ["romeo <3 montague", "romeo", "italia", "house"];
    assert_eq!(found, [expected.map(|text| Some(text.to_owned()))]);
    // It is replaced as a whole, and null says nothing.
    let small = with("nickname", json!([null, "R"]));
    let answered = run(&chat, "vcard", "setVcard", set(small)).await;
    assert_eq!(answered["nickname"], json!(["R"]));
    for gone in ["photo", "agent", "class", "key"] {
        assert!(answered[gone].is_null(), "{gone}");
    }
    chat.stop().await;
}

#[tokio::test]
async fn agents_have_vcards_of_their_own() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut vcard = with("note", json!(["innermost"]));
    for _ in 0..3 {
        vcard = with("agent", json!([{ "vcard": vcard }]));
    }
    let document = "mutation($user: JID!, $vcard: VcardInput!) { vcard { setVcard(user: $user, vcard: $vcard) {
        agent { ... on AgentVcard { vcard { agent { ... on AgentVcard { vcard { agent { ... on AgentVcard {
        vcard { note } } } } } } } } } } } }";
    let answered = ask(&chat.node, document, &set(vcard.clone())).await;
    let innermost = json!([{ "vcard": { "note": ["innermost"] } }]);
    let expected =
        json!({ "agent": [{ "vcard": { "agent": [{ "vcard": { "agent": innermost } }] } }] });
    assert_eq!(
        answered,
        json!({ "data": { "vcard": { "setVcard": expected } } })
    );
    // One more is too deep, however small; so are many, which are not looked into.
    for levels in [1, 30] {
        let mut deep = vcard.clone();
        for _ in 0..levels {
            deep = with("agent", json!([{ "vcard": deep }]));
        }
        let refused = code(&chat, "vcard", "setVcard", set(deep)).await;
        assert_eq!(refused, "input_coercion", "{levels}");
    }
    chat.stop().await;
}

#[tokio::test]
async fn a_vcard_of_a_client_is_read_as_far_as_it_is_understood() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    romeo
        .send(
            "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN/><NICKNAME/><NICKNAME>R</NICKNAME><X-OTHER>x</X-OTHER>\
             <TEL><CELL/><X-TAG/><NUMBER>1</NUMBER></TEL><PHOTO/><PHOTO><TYPE>a/b</TYPE></PHOTO><SOUND/><AGENT/>\
             <NOTE xmlns='urn:other'>n</NOTE></vCard></iq>",
        )
        .await;
    assert_eq!(romeo.expect("iq").await.attr("type"), Some("result"));
    let got = run(&chat, "vcard", "getVcard", user(ROMEO)).await;
    let mut said = got.as_object().unwrap().clone();
    said.retain(|_, value| !value.is_null());
    let expected = json!({
        "nickname": ["R"],
        "telephone": [{ "tags": ["CELL"], "number": "1" }],
        "photo": [{ "type": "a/b", "binValue": null }],
    });
    assert_eq!(Value::Object(said), expected);
    chat.stop().await;
}

#[tokio::test]
async fn a_vcard_that_cannot_be_set_or_got_is_told_with_its_code() {
    let chat = ChatNode::start(&["romeo"]).await;
    let got = code(&chat, "vcard", "getVcard", user(ROMEO)).await;
    assert_eq!(got, "vcard_not_found");
    for nobody in ["nobody@localhost", "romeo@elsewhere", "localhost"] {
        let got = code(&chat, "vcard", "getVcard", user(nobody)).await;
        assert_eq!(got, "user_not_found", "{nobody}");
        let args = json!({ "user": nobody, "vcard": with("note", json!([])) });
        let refused = code(&chat, "vcard", "setVcard", args).await;
        assert_eq!(refused, "user_not_found", "{nobody}");
    }
    let large = "x".repeat(70_000);
    let many = vec![""; 1_001];
    for (name, value, expected) in [
        ("photo", json!([{ "binValue": large }]), "internal"),
        ("note", json!(["\u{1}"]), "input_coercion"),
        ("note", json!(many), "too_many_items"),
        ("label", json!([{ "line": many }]), "too_many_items"),
        ("photo", json!([{ "type": "a/b" }]), "input_coercion"),
        (
            "photo",
            json!([{ "binValue": "a", "extValue": "b" }]),
            "input_coercion",
        ),
        (
            "sound",
            json!([{ "phonetic": "a", "binValue": "b" }]),
            "input_coercion",
        ),
        ("agent", json!([{}]), "input_coercion"),
    ] {
        let refused = code(&chat, "vcard", "setVcard", set(with(name, value))).await;
        assert_eq!(refused, expected, "{name}");
    }
    // Nothing of it is kept.
    let got = code(&chat, "vcard", "getVcard", user(ROMEO)).await;
    assert_eq!(got, "vcard_not_found");
    chat.stop().await;
}

#[tokio::test]
async fn there_are_no_vcards_without_their_module() {
    let chat = ChatNode::start_with(&["romeo"], |host| host.modules.vcard = None).await;
    let got = code(&chat, "vcard", "getVcard", user(ROMEO)).await;
    assert_eq!(got, "deps_not_loaded");
    chat.stop().await;
}
