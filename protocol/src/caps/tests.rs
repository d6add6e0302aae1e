//! The examples of both specifications, and descriptions that have no name.
use super::*;

const INFO: &str = "http://jabber.org/protocol/disco#info";

fn query(children: &str) -> Element {
    let xml = format!("<query xmlns='{INFO}'>{children}</query>");
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

fn list(features: &str) -> String {
    let one = |feature| format!("<feature var='{feature}'/>");
    features.split_whitespace().map(one).collect()
}

fn form(form_type: &str, fields: &[(&str, &[&str])]) -> String {
    let mut xml = format!(
        "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>{form_type}</value></field>"
    );
    for (var, values) in fields {
        let values: String = values
            .iter()
            .map(|value| format!("<value>{value}</value>"))
            .collect();
        xml += &format!("<field var='{var}'>{values}</field>");
    }
    xml + "</x>"
}

const SOFTWARE: &str = "urn:xmpp:dataforms:softwareinfo";

/// XEP-0115 sections 5.2 and 5.3.
#[test]
fn the_examples_of_xep_0115() {
    let features = list(
        "http://jabber.org/protocol/disco#info http://jabber.org/protocol/disco#items \
         http://jabber.org/protocol/muc http://jabber.org/protocol/caps",
    );
    let simple = format!("<identity category='client' name='Exodus 0.9.1' type='pc'/>{features}");
    let complex = format!(
        "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
         <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>{features}{}",
        form(
            SOFTWARE,
            &[
                ("ip_version", &["ipv6", "ipv4"]),
                ("os", &["Mac"]),
                ("os_version", &["10.5.1"]),
                ("software", &["Psi"]),
                ("software_version", &["0.11"]),
            ],
        )
    );
    for (children, expected) in [
        (simple, "QgayPKawpkPSDYmwT/WM94uAlu0="),
        (complex, "q07IKJEyjvHSyhy//CH0CxmKi8w="),
    ] {
        let found = digest(&query(&children), Version::V1, HashName::Sha1);
        assert_eq!(found.as_deref(), Ok(expected));
    }
}

/// XEP-0390 section 4.2.
#[test]
fn the_examples_of_xep_0390() {
    let simple = "<identity category='client' name='BombusMod' type='mobile'/>".to_owned()
        + &list(
            "http://jabber.org/protocol/si http://jabber.org/protocol/bytestreams \
             http://jabber.org/protocol/chatstates http://jabber.org/protocol/disco#info \
             http://jabber.org/protocol/disco#items urn:xmpp:ping jabber:iq:time jabber:iq:privacy \
             jabber:iq:version http://jabber.org/protocol/rosterx urn:xmpp:time jabber:x:oob \
             http://jabber.org/protocol/ibb http://jabber.org/protocol/si/profile/file-transfer \
             urn:xmpp:receipts jabber:iq:roster jabber:iq:last",
        );
    let complex = "<identity category='client' name='Tkabber' type='pc' xml:lang='en'/>\
         <identity category='client' name='Ткаббер' type='pc' xml:lang='ru'/>"
        .to_owned()
        + &list(
            "games:board http://jabber.org/protocol/activity http://jabber.org/protocol/activity+notify \
             http://jabber.org/protocol/bytestreams http://jabber.org/protocol/chatstates \
             http://jabber.org/protocol/commands http://jabber.org/protocol/disco#info \
             http://jabber.org/protocol/disco#items http://jabber.org/protocol/evil \
             http://jabber.org/protocol/feature-neg http://jabber.org/protocol/geoloc \
             http://jabber.org/protocol/geoloc+notify http://jabber.org/protocol/ibb \
             http://jabber.org/protocol/iqibb http://jabber.org/protocol/mood \
             http://jabber.org/protocol/mood+notify http://jabber.org/protocol/rosterx \
             http://jabber.org/protocol/si http://jabber.org/protocol/si/profile/file-transfer \
             http://jabber.org/protocol/tune http://www.facebook.com/xmpp/messages \
             http://www.xmpp.org/extensions/xep-0084.html#ns-metadata+notify jabber:iq:avatar \
             jabber:iq:browse jabber:iq:dtcp jabber:iq:filexfer jabber:iq:ibb jabber:iq:inband \
             jabber:iq:jidlink jabber:iq:last jabber:iq:oob jabber:iq:privacy jabber:iq:roster \
             jabber:iq:time jabber:iq:version jabber:x:data jabber:x:event jabber:x:oob \
             urn:xmpp:avatar:metadata+notify urn:xmpp:ping urn:xmpp:receipts urn:xmpp:time",
        )
        + &form(
            SOFTWARE,
            &[
                ("software", &["Tkabber"]),
                (
                    "software_version",
                    &["0.11.1-svn-20111216-mod (Tcl/Tk 8.6b2)"],
                ),
                ("os", &["Windows"]),
                ("os_version", &["XP"]),
            ],
        );
    for (children, expected) in [
        (simple, "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8="),
        (complex, "u79ZroNJbdSWhdSp311mddz44oHHPsEBntQ5b1jqBSY="),
    ] {
        let found = digest(&query(&children), Version::V2, HashName::Sha256);
        assert_eq!(found.as_deref(), Ok(expected));
    }
}

#[test]
fn order_does_not_matter() {
    let one = query(
        "<feature var='a'/><feature var='b'/><identity category='c' type='d'/><identity category='a' type='d'/>",
    );
    let other = query(
        "<identity category='a' type='d'/><feature var='b'/><identity category='c' type='d'/><feature var='a'/>",
    );
    for version in [Version::V1, Version::V2] {
        for hash in HashName::ALL {
            let of = |query| digest(query, version, hash).unwrap();
            assert_eq!(of(&one), of(&other));
        }
    }
}

/// Security case R20: by the older specification parts can be moved into each other.
#[test]
fn r20_what_could_be_taken_for_something_else_has_no_name() {
    let (a, b) = (form("a", &[("v", &["1"])]), form("b", &[]));
    let named = |children: &str| {
        [Version::V1, Version::V2]
            .map(|version| digest(&query(children), version, HashName::Sha256).is_ok())
    };
    for (children, expected) in [
        ("<feature var='a'/>", [true, true]),
        ("<feature var='a'/><feature var='a'/>", [false, true]),
        (
            "<identity category='a' type='b'/><identity category='a' type='b'/>",
            [false, true],
        ),
        ("<feature var='a&lt;b'/>", [false, true]),
        (
            "<identity category='client' type='pc' name='a&lt;urn:xmpp:ping'/>",
            [false, true],
        ),
        (&(a.clone() + &b), [true, true]),
        (&(a.clone() + &a), [false, true]),
        (&form("a", &[("v&lt;w", &[])]), [false, true]),
        (&form("a", &[("v", &["w&lt;"])]), [false, true]),
        (&form("a", &[("FORM_TYPE", &["b"])]), [false, true]),
        // Left out by the one, refused by the other.
        (
            "<x xmlns='jabber:x:data'><field var='a'/></x>",
            [true, false],
        ),
        ("<item xmlns='urn:example'/>", [true, false]),
        ("<x xmlns='jabber:x:data'><reported/></x>", [true, false]),
    ] {
        assert_eq!(named(children), expected, "{children}");
    }
}

#[test]
fn a_presence_names_what_its_client_can_do() {
    let presence = |children: &str| {
        let xml = format!("<presence>{children}</presence>");
        Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
    };
    let v1 = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:n' ver='abc='/>";
    let v2 = "<c xmlns='urn:xmpp:caps'><hash xmlns='urn:xmpp:hashes:2' algo='sha3-256'>x</hash>\
              <hash xmlns='urn:xmpp:hashes:2' algo='sha-512'>y</hash>\
              <hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>z</hash></c>";
    let both = [Version::V1, Version::V2];
    let long = v1.replace("abc=", &"a".repeat(DIGEST_BYTES_MAX + 1));
    for (children, versions, node) in [
        (v1.to_owned(), &both[..], Some("urn:n#abc=")),
        (v2.to_owned(), &both, Some("urn:xmpp:caps#sha-256.z")),
        (v1.to_owned() + v2, &both, Some("urn:xmpp:caps#sha-256.z")),
        (v1.to_owned() + v2, &both[..1], Some("urn:n#abc=")),
        (v1.to_owned(), &both[1..], None),
        (v1.replace(" hash='sha-1'", ""), &both, None),
        (v1.replace("sha-1", "md5"), &both, None),
        (v1.replace("abc=", ""), &both, None),
        (long, &both, None),
        (
            v1.replace("urn:n", &"n".repeat(NODE_BYTES_MAX)),
            &both,
            None,
        ),
        (String::new(), &both, None),
    ] {
        let caps = Named::of_presence(&presence(&children), versions);
        let found = caps.as_ref().map(|caps| &*caps.node);
        assert_eq!(found, node, "{children}");
    }
}
