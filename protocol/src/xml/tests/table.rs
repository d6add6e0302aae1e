//! Every check that quick-xml leaves to us, row by row, in all pieces and against expat.
use super::{HEADER, expat, read};
use crate::StreamCondition::{self, BadFormat, BadNamespacePrefix, NotWellFormed, RestrictedXml};

/// What expat, which knows XML but not RFC 6120, says of a row that we refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expat {
    RefusesToo,
    /// Well-formed, but RFC 6120 forbids it.
    Accepts,
}
use Expat::{Accepts, RefusesToo};

struct Row {
    content: Vec<u8>,
    expected: Option<StreamCondition>,
    expat: Expat,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn refused(&mut self, content: impl AsRef<[u8]>, condition: StreamCondition, expat: Expat) {
        self.0.push(Row {
            content: content.as_ref().to_vec(),
            expected: Some(condition),
            expat,
        });
    }

    fn malformed(&mut self, content: impl AsRef<[u8]>) {
        self.refused(content, NotWellFormed, RefusesToo);
    }

    fn accepted(&mut self, content: impl AsRef<[u8]>) {
        self.0.push(Row {
            content: content.as_ref().to_vec(),
            expected: None,
            expat: Accepts,
        });
    }

    /// Places `middle` as text, in CDATA and in both kinds of attribute value.
    fn everywhere(middle: &[u8]) -> [Vec<u8>; 4] {
        let around =
            |before: &str, after: &str| [before.as_bytes(), middle, after.as_bytes()].concat();
        [
            around("<a>x", "y</a>"),
            around("<a><![CDATA[x", "y]]></a>"),
            around("<a b='x", "y'/>"),
            around("<a b=\"x", "y\"/>"),
        ]
    }

    /// Feeds all rows. What we accept, expat has to accept with the same trees.
    #[track_caller]
    fn check(self) {
        let documents: Vec<Vec<u8>> = self
            .0
            .iter()
            .map(|row| [HEADER.as_bytes(), &row.content, b"</stream:stream>"].concat())
            .collect();
        let trees = expat::children(&documents);
        for (row, tree) in self.0.iter().zip(trees) {
            let shown = String::from_utf8_lossy(&row.content);
            let found = read(&row.content);
            assert_eq!(found.error, row.expected, "{shown:?}");
            assert_eq!(tree.is_some(), row.expat == Accepts, "expat on {shown:?}");
            if found.error.is_none() {
                assert_eq!(Some(found.items), tree, "{shown:?}");
                assert!(!found.is_inside, "{shown:?}");
            }
        }
    }
}

#[test]
fn x06_bytes_are_utf_8() {
    let mut table = Table::default();
    for bytes in [
        &b"\x80"[..],
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ] {
        for row in Table::everywhere(bytes) {
            table.malformed(row);
        }
        table.malformed([b"<a", bytes, b"/>"].concat());
        table.malformed([b"<a b", bytes, b"='1'/>"].concat());
        table.malformed([b"<a></a", bytes, b">"].concat());
    }
    for text in [
        "\u{e9}",
        "\u{20ac}",
        "\u{1f600}",
        "\u{feff}",
        "\u{85}\u{2028}",
        "\u{fffd}",
    ] {
        for row in Table::everywhere(text.as_bytes()) {
            table.accepted(row);
        }
    }
    table.accepted("<a>\u{feff}</a>");
    table.accepted("<a>\u{feff}<b/>\u{feff}&amp;\u{feff}<![CDATA[\u{feff}]]></a>");
    table.check();
}

#[test]
fn x05_characters_are_those_of_xml_1_0() {
    let mut table = Table::default();
    for char in [
        "\0", "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\u{e}", "\u{1f}", "\u{fffe}", "\u{ffff}",
    ] {
        for row in Table::everywhere(char.as_bytes()) {
            table.malformed(row);
        }
    }
    for char in [
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\u{7f}",
        "\u{80}",
        "\u{fffd}",
        "\u{1fffe}",
        "\u{10ffff}",
    ] {
        for row in Table::everywhere(char.as_bytes()) {
            table.accepted(row);
        }
    }
    table.check();
}

#[test]
fn x04_character_references_are_to_characters_of_xml_1_0() {
    let mut table = Table::default();
    let [text, _, single, double] = [0, 1, 2, 3];
    for reference in [
        "&#0;",
        "&#1;",
        "&#x1F;",
        "&#xFFFE;",
        "&#xFFFF;",
        "&#xD800;",
        "&#xDFFF;",
        "&#x110000;",
        "&#99999999999;",
        "&#;",
        "&#x;",
        "&#xG;",
        "&#1a;",
        "&#-1;",
        "&#+65;",
        "&#x+41;",
        "&#X41;",
        "&# 65;",
    ] {
        let rows = Table::everywhere(reference.as_bytes());
        for place in [text, single, double] {
            table.malformed(&rows[place]);
        }
    }
    for reference in [
        "&#9;",
        "&#xA;",
        "&#13;",
        "&#x41;",
        "&#x00041;",
        "&#xE000;",
        "&#x10FFFF;",
        "&#x1f600;",
    ] {
        for row in Table::everywhere(reference.as_bytes()) {
            table.accepted(row);
        }
    }
    table.check();
}

#[test]
fn x03_there_are_five_entities() {
    let mut table = Table::default();
    for reference in ["&foo;", "&AMP;", "&nbsp;", "&amp2;"] {
        let [text, _, single, double] = Table::everywhere(reference.as_bytes());
        for row in [text, single, double] {
            table.refused(row, RestrictedXml, RefusesToo);
        }
    }
    for reference in [
        "&", "& ", "&;", "&amp", "&amp ;", "&1;", "&a b;", "&&amp;", "&a&amp;", "&a:b;",
    ] {
        let [text, _, single, double] = Table::everywhere(reference.as_bytes());
        for row in [text, single, double] {
            table.malformed(row);
        }
    }
    table.malformed("<a>&amp</a>");
    table.malformed("<a>&amp<b/>;</a>");
    table.accepted(
        "<a b='&amp;&lt;&gt;&apos;&quot;'>&amp;&lt;&gt;&apos;&quot;<![CDATA[&foo;&]]></a>",
    );
    table.check();
}

#[test]
fn x01_x02_document_types_comments_and_instructions_are_restricted() {
    let mut table = Table::default();
    for markup in [
        "<!DOCTYPE a>",
        "<!doctype a>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "<!ENTITY a 'b'>",
        "<!ELEMENT a ANY>",
        "<!foo>",
        "<!>",
        "<! >",
        "<![INCLUDE[x]]>",
        "<![cdata[x]]>",
        "<![CDATA x]]>",
        "<!-",
        "<!D",
        "<?>",
        "<?a",
        "<? a?>",
    ] {
        table.refused(markup, RestrictedXml, RefusesToo);
        table.refused(format!("<a>{markup}</a>"), RestrictedXml, RefusesToo);
    }
    for markup in [
        "<!-- a -->",
        "<!---->",
        "<?a?>",
        "<?a b='c'?>",
        "<?xml-stylesheet a?>",
        "<?xmla?>",
    ] {
        table.refused(markup, RestrictedXml, Accepts);
        table.refused(format!("<a>{markup}</a>"), RestrictedXml, Accepts);
    }
    for markup in ["<?XML a?>", "<?xml??>", "<?xml?a?>"] {
        table.refused(markup, RestrictedXml, RefusesToo);
    }
    table.check();
}

#[test]
fn x08_a_declaration_stands_only_at_the_start() {
    let mut table = Table::default();
    for content in [
        "<?xml version='1.0'?>",
        "<?xml version='1.0' encoding='UTF-8'?>",
        "<?xml?>",
        "<?xml ?>",
        "<a/><?xml version='1.0'?>",
        "<a><?xml version='1.0'?></a>",
        "<a><?xml\n",
    ] {
        table.malformed(content);
    }
    table.check();
}

/// X20.
#[test]
fn x20_the_end_of_a_section_stands_only_at_its_end() {
    let mut table = Table::default();
    for content in [
        "<a>]]></a>",
        "<a>x]]>y</a>",
        "<a>]]]></a>",
        "<a>&amp;]]></a>",
        "<a><b/>x]]><b/></a>",
    ] {
        table.malformed(content);
    }
    for content in [
        "<a>]] ></a>",
        "<a>]]&gt;</a>",
        "<a>]&#93;></a>",
        "<a>]]<![CDATA[>]]></a>",
        "<a>></a>",
        "<a>]>]</a>",
        "<a b=']]>'/>",
        "<a b=\"'\" c='\"'>\"'</a>",
        "<a><![CDATA[]]]]><![CDATA[>]]></a>",
        "<a><![CDATA[]]></a>",
        "<a><![CDATA[<b>&amp;]]]></a>",
        "<a><![CDATA[<![CDATA[]]></a>",
        "<a><![CDATA[>]]>\r\n<![CDATA[\r]]></a>",
    ] {
        table.accepted(content);
    }
    table.check();
}

#[test]
fn element_names_are_qnames() {
    let mut table = Table::default();
    for name in [
        "1a",
        "-a",
        ".a",
        "a&b",
        "a,b",
        "a/b",
        "a=b",
        "a:b:c",
        "a:",
        ":a",
        ":",
        "\u{d7}a",
        "a\u{d7}",
        "\u{300}a",
        "a\u{2028}",
        "\u{1f600}",
        "a\u{10400}",
    ] {
        table.malformed(format!("<{name}/>"));
        table.malformed(format!("<{name}></{name}>"));
    }
    for content in [
        "<a<b/>", "< a/>", "<>", "</>", "</ >", "<a/ >", "<a / >", "<a//>", "<a></a/>", "<a></ a>",
        "<a b<",
    ] {
        table.malformed(content);
    }
    for name in [
        "_",
        "a-b.c_1",
        "\u{e9}t\u{e9}",
        "a\u{b7}",
        "\u{4e2d}\u{6587}",
        "\u{430}\u{31}",
    ] {
        table.accepted(format!(
            "<{name} xmlns:p{name}='x' p{name}:{name}=''><p{name}:{name}/></{name}>"
        ));
    }
    table.accepted("<a\t\r\n/><b ></b\n\t>");
    table.check();
}

#[test]
fn attributes_have_qnames_and_white_space_before_them() {
    let mut table = Table::default();
    for attributes in [
        "1x='1'",
        "a<b='1'",
        "a&b='1'",
        "a:b:c='1'",
        "a:='1'",
        ":a='1'",
        "='1'",
        "a",
        "a=",
        "a=1",
        "a=1 b='2'",
        "a='1'b='2'",
        "a='1'b",
        "a b='1'",
        "a='1' /",
        "'a'='1'",
        "a='1',b='2'",
        "a = = '1'",
        "a='<'",
        "a=\"x<y\"",
        "xmlns:='x'",
        "xmlns:a:b='x'",
        "xmlns:1='x'",
        "a\u{a0}='1'",
        "a='1'\u{a0}b='2'",
        "a='1'\u{c}b='2'",
    ] {
        table.malformed(format!("<a {attributes}/>"));
        table.malformed(format!("<a {attributes}></a>"));
    }
    table.accepted("<a a = '1'\tb\n=\r'2'  c=\"3\"/>");
    table.accepted("<a a='>' b=\"/>\" c='/a>'/>");
    table.accepted("<a a='x\ty\nz\r\nw\rv&#9;&#10;&#13; '/>");
    table.accepted("<a xmlns:\u{e9}='x' \u{e9}:\u{e9}='1'/>");
    table.check();
}

/// X13.
#[test]
fn x13_no_attribute_stands_twice() {
    let mut table = Table::default();
    for attributes in [
        "a='1' a='1'",
        "a='1' b='2' a='3'",
        "xmlns='x' xmlns='x'",
        "xmlns:p='x' xmlns:p='y'",
        "xml:lang='a' xml:lang='b'",
        "xmlns:p='x' xmlns:q='x' p:a='1' q:a='2'",
        "p:a='1' q:a='2' xmlns:p='x' xmlns:q='&#x78;'",
        "xmlns:p='a&amp;b' xmlns:q='a&#38;b' p:a='1' q:a='2'",
        "xmlns:p='a b' xmlns:q='a\nb' p:a='1' q:a='2'",
        "xmlns:p='http://www.w3.org/XML/1998/namespac&#x65;'",
    ] {
        table.malformed(format!("<a {attributes}/>"));
    }
    table.malformed("<a xmlns:p='x'><b xmlns:q='x'><c p:a='1' q:a='2'/></b></a>");
    table.accepted("<a a='1' p:a='2' q:a='3' xmlns:p='x' xmlns:q='y'/>");
    table.accepted("<a xmlns:p='x' xmlns:q='X' p:a='1' q:a='2' p:b='' q:b='' A=''/>");
    table.accepted("<p:a xmlns:p='x' xmlns='x' a='1' p:a='2'/>");
    table.accepted("<a xml:lang='a' lang='b' xml:id='c' id='d' xml:space='preserve'/>");
    table.check();
}

/// X14.
#[test]
fn x14_namespaces_are_declared_as_they_may_be() {
    let mut table = Table::default();
    for attributes in [
        "xmlns:p=''",
        "xmlns='http://www.w3.org/XML/1998/namespace'",
        "xmlns='http://www.w3.org/2000/xmlns/'",
        "xmlns:p='http://www.w3.org/XML/1998/namespace'",
        "xmlns:p='http://www.w3.org/2000/xmlns/'",
        "xmlns:xml='x'",
        "xmlns:xml=''",
        "xmlns:xmlns='x'",
        "xmlns:xmlns='http://www.w3.org/2000/xmlns/'",
    ] {
        table.malformed(format!("<a {attributes}/>"));
    }
    for content in [
        "<p:a/>",
        "<a p:b='1'/>",
        "<xmlns:a/>",
        "<a xmlns:p='x'/><p:b/>",
        "<a><b xmlns:p='x'/><p:c/></a>",
        "<a><b xmlns:p='x'><c/></b><d p:e=''/></a>",
        "<p:a xmlns:P='x'/>",
    ] {
        table.refused(content, BadNamespacePrefix, RefusesToo);
    }
    for content in [
        "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='x'><xml:b/></a>",
        "<a xmlns=''><b xmlns='x'><c xmlns=''/></b></a>",
        "<p:a xmlns:p='x'><p:b xmlns:p='y'><p:c/></p:b><p:d/></p:a>",
        "<a b:c='1' xmlns:b='x'/>",
        "<stream:a stream:b='1'><stream:c xmlns:stream='x'/></stream:a>",
        "<xmlfoo:a xmlns:xmlfoo='x' xmlns:XML='y'><XML:b/></xmlfoo:a>",
    ] {
        table.accepted(content);
    }
    table.check();
}

/// X15.
#[test]
fn x15_names_of_namespaces_are_compared_as_whole_strings() {
    let mut table = Table::default();
    for ns in [
        "a}b",
        "a b",
        " ",
        "a|b",
        "a\u{e9}",
        "a&#10;b",
        "a\nb",
        "a&lt;b",
        "{jabber:client}",
        "jabber:client ",
    ] {
        table.accepted(format!(
            "<a xmlns:p='{ns}' p:c='1'><b xmlns='{ns}'><p:c/></b></a>"
        ));
    }
    table.check();
}

#[test]
fn every_end_tag_matches() {
    let mut table = Table::default();
    for content in [
        "<a></b>",
        "<a></A>",
        "<a><b></a></b>",
        "<p:a xmlns:p='x'></a>",
        "<p:a xmlns:p='x' xmlns:q='x'></q:a>",
        "<a></a b='1'>",
        "<a></a b>",
        "<a></a'>",
        "<a></a\">",
        "<a></aa>",
        "<ab></a>",
        "</a>",
        "<a/></a>",
        "<a></<",
    ] {
        table.malformed(content);
    }
    table.accepted("<a></a\r\n\t ><b><c/></b ><d><d><d></d></d></d>");
    table.check();
}

/// X21.
#[test]
fn x21_only_white_space_stands_between_elements() {
    let mut table = Table::default();
    for content in [
        "x",
        "x<a/>",
        "<a/>x",
        "&amp;",
        "&",
        "]]>",
        ">",
        "<![CDATA[]]>",
        "<![CDATA[x",
        "\u{e9}",
        "\u{feff}<a/>",
        "\u{7f}",
    ] {
        let expat = match content {
            "&" | "]]>" | "<![CDATA[x" => RefusesToo,
            _ => Accepts,
        };
        table.refused(content, BadFormat, expat);
    }
    table.malformed("\0");
    table.malformed("\u{1}");
    table.malformed(b"\xff");
    table.malformed(b"\xc0\x80");
    table.accepted("\r\n\t <a/> \n<b/>\t");
    table.check();
}

/// N11.
#[test]
fn n11_there_is_no_second_header() {
    let mut table = Table::default();
    table.refused("<stream:stream>", BadFormat, RefusesToo);
    table.refused("<a/><stream:stream version='1.0'/>", BadFormat, Accepts);
    table.refused(
        "<stream xmlns='http://etherx.jabber.org/streams'></stream>",
        BadFormat,
        Accepts,
    );
    table.accepted("<stream/><a><stream:stream/></a><stream:streams/>");
    table.check();
}

#[test]
fn an_element_that_is_not_whole_is_not_given() {
    for content in [
        "<![",
        "<![CDAT",
        "<?",
        "<?xm",
        "<a b='1''/>",
        "<a'b/>",
        "<a b=\"1'/>",
        "<",
        "<a",
        "<a ",
        "<a b='",
        "<a b='/>",
        "<a>",
        "<a><b/>",
        "<a></",
        "<a></a",
        "<a>&am",
        "<a><![CD",
        "<a>\u{e9}",
    ] {
        let read = read(content);
        assert_eq!(
            (read.items.len(), read.error, read.is_inside),
            (0, None, true),
            "{content}"
        );
    }
    let whole = read("<a/> ");
    assert!(!whole.is_inside);
}

/// X22.
#[test]
fn x22_what_follows_the_end_of_the_stream_is_ignored() {
    let closed = read("<a/></stream:stream>\0<");
    assert_eq!(closed.items.last().unwrap(), "close");
    assert_eq!((closed.error, closed.is_inside), (None, false));
    let closed = read("</stream:stream \n>");
    assert_eq!((closed.items.len(), closed.error), (1, None));
    for end in [
        "</stream:Stream>",
        "</stream>",
        "</s:stream>",
        "</stream:stream a='1'>",
    ] {
        assert_eq!(read(end).error, Some(NotWellFormed), "{end}");
    }
}

/// Each character that we allow in names expat allows too; of those that we forbid it forbids a sample.
#[test]
fn name_characters_are_those_of_expat() {
    let error = |content: &str| {
        let input = format!("{HEADER}{content}");
        let reader = crate::xml::StreamReader::new(crate::xml::Limits::AUTHENTICATED);
        super::read_in(reader, input.as_bytes(), || usize::MAX).error
    };
    let (mut allowed, mut refused) = (String::new(), Vec::new());
    for char in ('\u{80}'..='\u{ffff}').chain('\u{10000}'..='\u{10010}') {
        for element in [format!("<{char}/>"), format!("<a{char}/>")] {
            if error(&element).is_none() {
                allowed.push_str(&element);
            } else if u32::from(char) % 61 == 0 {
                refused.push(element);
            }
        }
    }
    let document = |content: &str| format!("{HEADER}{content}</stream:stream>").into_bytes();
    let mut documents = vec![document(&allowed)];
    documents.extend(refused.iter().map(|element| document(element)));
    let mut trees = expat::children(&documents).into_iter();
    assert!(
        trees
            .next()
            .flatten()
            .is_some_and(|trees| trees.len() > 60_000)
    );
    assert!(refused.len() > 500);
    for (element, tree) in refused.iter().zip(trees) {
        assert_eq!(tree, None, "{element}");
    }
}
