use super::{Attribute, Element, Node};
use crate::{StreamCondition, ns};

fn parse(xml: &str) -> Element {
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn a_tree_is_built_and_written() {
    let element = Element::new("iq", ns::CLIENT)
        .with_attr("type", "result")
        .with_child(Element::new("query", ns::ROSTER).with_attr("ver", "<'\">\n"))
        .with_text("a<b>\r\n")
        .with_text("]]>");
    let written = "<iq type='result'><query xmlns='jabber:iq:roster' ver='&lt;&apos;&quot;&gt;&#10;'/>\
                   a&lt;b&gt;&#13;\n]]&gt;</iq>";
    let mut out = b"x".to_vec();
    element.write(&mut out, ns::CLIENT);
    assert_eq!(String::from_utf8(out).unwrap(), format!("x{written}"));
    assert_eq!(
        element.to_xml(),
        written.replacen("<iq", "<iq xmlns='jabber:client'", 1)
    );
    assert_eq!(parse(written), element);
}

#[test]
fn children_and_attributes_are_found_by_their_expanded_names() {
    let element = parse(
        "<a b='1' p:b='2' xmlns:p='x' xml:lang='de'>t<c/><c xmlns='x' d='3'/>u<!![CDATA[v]]></a>"
            .replace("<!!", "<!")
            .as_str(),
    );
    assert!(element.is("a", ns::CLIENT) && !element.is("a", "x"));
    assert_eq!(
        (element.attr("b"), element.lang(), element.attr("lang")),
        (Some("1"), Some("de"), None)
    );
    assert_eq!(
        element.child("c", "x").and_then(|child| child.attr("d")),
        Some("3")
    );
    assert_eq!(element.child("d", "x"), None);
    assert_eq!(element.elements().count(), 2);
    assert_eq!(element.text(), "tuv");
    assert_eq!(element.nodes().len(), 4);
    assert_eq!(element.nodes()[0], Node::Text("t".into()));
}

#[test]
fn attributes_are_set_and_removed() {
    let mut element = parse("<a b='1' xml:lang='de'/>");
    element.set_attr("b", Some("2"));
    element.set_attr("c", Some("3"));
    element.set_attr("d", None);
    element.set_lang(None);
    assert_eq!(element.to_xml(), "<a xmlns='jabber:client' b='2' c='3'/>");
    element.set_attr("b", None);
    element.set_lang(Some("fr"));
    assert_eq!(
        element.to_xml(),
        "<a xmlns='jabber:client' c='3' xml:lang='fr'/>"
    );
}

#[test]
fn prefixes_are_made_for_attributes_that_need_one() {
    let element = parse("<a xmlns:p='x' xmlns:q='y&lt;' p:b='1' q:b='2' p:c='3'/>");
    assert_eq!(
        element.to_xml(),
        "<a xmlns='jabber:client' xmlns:ns0='x' ns0:b='1' xmlns:ns1='y&lt;' ns1:b='2' ns0:c='3'/>"
    );
    assert_eq!(
        element.attributes()[0],
        Attribute {
            name: "b".into(),
            ns: "x".into(),
            value: "1".into()
        }
    );
}

#[test]
fn children_are_kept_by_a_rule_and_text_stays() {
    let mut element = parse("<a>1<b/>2<c/>3<b/></a>");
    element.retain_elements(|child| child.name() != "b");
    assert_eq!(element.to_xml(), "<a xmlns='jabber:client'>12<c/>3</a>");
    assert_eq!(element.text(), "123");
}

#[test]
fn a_namespace_is_replaced_where_it_is_inherited() {
    let mut element = parse("<a xmlns='o'><b><c/></b><d xmlns='x'><e xmlns='o'/></d></a>");
    element.replace_ns("o", "n");
    assert_eq!(
        element.to_xml(),
        "<a xmlns='n'><b><c/></b><d xmlns='x'><e xmlns='o'/></d></a>"
    );
}

#[test]
fn only_one_whole_element_is_parsed() {
    assert!(parse(" \n<a/>\t").is("a", ns::CLIENT));
    for (xml, condition) in [
        ("", StreamCondition::NotWellFormed),
        ("<a>", StreamCondition::NotWellFormed),
        ("<a/><b/>", StreamCondition::NotWellFormed),
        ("</a>", StreamCondition::NotWellFormed),
        ("x", StreamCondition::NotWellFormed),
        ("<a/>x", StreamCondition::NotWellFormed),
        ("<?xml version='1.0'?><a/>", StreamCondition::NotWellFormed),
        ("<!--x--><a/>", StreamCondition::RestrictedXml),
        ("<p:a/>", StreamCondition::BadNamespacePrefix),
    ] {
        let error = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap_err();
        assert_eq!(error.condition, condition, "{xml}");
    }
    assert!(Element::parse(b"<a>\xff</a>", "").is_err());
    assert_eq!(Element::parse(b"<a/>", "").unwrap().ns(), "");
}

#[test]
fn namespaces_that_are_known_are_not_copied() {
    let element = parse("<a xmlns='jabber:iq:roster'/>");
    assert!(matches!(&element.ns, std::borrow::Cow::Borrowed(_)));
}
