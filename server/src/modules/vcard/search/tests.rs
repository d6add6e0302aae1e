use super::*;

fn element(xml: &str) -> Element {
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn fields_stand_where_the_vcard_has_them() {
    let vcard = element(
        "<vCard xmlns='vcard-temp'><FN> Juliet Capulet </FN><N><FAMILY>Capulet</FAMILY><GIVEN>Juliet</GIVEN></N>\
         <NICKNAME>Jule</NICKNAME><ADR><HOME/><CTRY>Italia</CTRY></ADR><ADR><CTRY>Elsewhere</CTRY></ADR>\
         <EMAIL><INTERNET/><USERID>j@capulet.example</USERID></EMAIL><ORG><ORGUNIT>Balcony</ORGUNIT></ORG>\
         <N><MIDDLE>late</MIDDLE></N><BDAY xmlns='other'>1</BDAY></vCard>",
    );
    let texts = Fields::of(&vcard).0;
    let named: Vec<_> = ALL.iter().skip(1).zip(&texts).collect();
    for (field, text) in named {
        let expected = match field.var {
            "fn" => "Juliet Capulet",
            "last" => "Capulet",
            "first" => "Juliet",
            "nick" => "Jule",
            "ctry" => "Italia",
            "email" => "j@capulet.example",
            "orgunit" => "Balcony",
            _ => "",
        };
        assert_eq!(text, expected, "{}", field.var);
    }
    assert!(Fields::of(&element("<vCard xmlns='vcard-temp'><FN/></vCard>")).is_empty());
}

#[test]
fn no_more_of_a_text_is_searched_than_an_index_holds() {
    let long = "\u{130}".repeat(1_000);
    let vcard = element(&format!(
        "<vCard xmlns='vcard-temp'><FN>{long}</FN></vCard>"
    ));
    let fields = Fields::of(&vcard);
    assert_eq!(fields.0[0].chars().count(), FIELD_CHARS_MAX);
    assert_eq!(folded(&long).chars().count(), FIELD_CHARS_MAX);
}

fn parsed(form: &str) -> Result<Option<Query>, StanzaCondition> {
    let payload = format!("<query xmlns='jabber:iq:search'>{form}</query>");
    parse(&element(&payload)).map_err(|error| error.condition)
}

#[test]
fn a_search_is_a_form_with_known_fields() {
    let form = |fields: &str| format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>");
    let field =
        |var: &str, value: &str| format!("<field var='{var}'><value>{value}</value></field>");
    let looked_for = |fields: &str| {
        let query = parsed(&form(fields)).unwrap();
        let query = query.map_or_else(Vec::new, |query| query.0.to_vec());
        let named = ALL.iter().zip(query);
        let named = named.filter(|(_, pattern)| *pattern != Pattern::Any);
        named
            .map(|(field, pattern)| (field.var, pattern))
            .collect::<Vec<_>>()
    };
    let whole = |text: &str| Pattern::Whole(text.to_owned());
    let beginning = |text: &str| Pattern::Beginning(text.to_owned());
    assert_eq!(looked_for(""), []);
    assert_eq!(looked_for(&field("fn", "*")), []);
    assert_eq!(looked_for(&field("fn", " ")), []);
    assert_eq!(looked_for("<field var='fn'/>"), []);
    let given = field("fn", "Juliet C*") + &field("FORM_TYPE", "jabber:iq:search");
    assert_eq!(looked_for(&given), [("fn", beginning("juliet c"))]);
    let given = field("nick", "\u{c9}T\u{c9}") + &field("user", "*x");
    let expected = [("user", whole("*x")), ("nick", whole("\u{e9}t\u{e9}"))];
    assert_eq!(looked_for(&given), expected);
    for bad in [
        "",
        "<x xmlns='jabber:x:data' type='form'/>",
        "<x xmlns='other' type='submit'/>",
        "<first>Juliet</first>",
        &form(&field("password", "x")),
    ] {
        assert_eq!(parsed(bad), Err(StanzaCondition::BadRequest), "{bad}");
    }
}
