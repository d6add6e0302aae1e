//! XML to a tree, to XML, to a tree: nothing is lost.
use protocol::{Element, Stanza, ns};

use super::{Target, XML_WORDS};

pub(crate) const TARGET: Target = Target {
    name: "xml_tree",
    run,
    seeds: &[
        b"<message to='a@b' xml:lang='de'><body>a\r\n&#13;<![CDATA[&]]></body><p:x xmlns:p='y' p:z='&lt;'/></message>",
        b"<a xmlns='x'><b xmlns=''><c xmlns='x'/></b></a>",
    ],
    words: XML_WORDS,
};

fn run(input: &[u8]) {
    let Ok(tree) = Element::parse(input, ns::CLIENT) else {
        return;
    };
    let alone = tree.to_xml();
    assert_eq!(Element::parse(alone.as_bytes(), "").as_ref(), Ok(&tree));
    for inherited in [ns::CLIENT, "x"] {
        let mut out = Vec::new();
        tree.write(&mut out, inherited);
        assert_eq!(Element::parse(&out, inherited).as_ref(), Ok(&tree));
    }
    if let Ok(stanza) = Stanza::from_element(&tree) {
        let written = stanza.to_element();
        assert_eq!(written.nodes(), tree.nodes());
        let again = Stanza::from_element(&written).expect("it is a stanza");
        assert_eq!(again.bytes(), stanza.bytes(), "the normal form is one");
    }
}
