//! Namespaces, one constant each.
use std::borrow::Cow;

/// Content of client streams (RFC 6120 section 4.8.2).
pub const CLIENT: &str = "jabber:client";
/// `<open/>` and `<close/>` of a framed stream (RFC 7395 section 3.3.1).
pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
/// Content of server streams (RFC 6120 section 4.8.2).
pub const SERVER: &str = "jabber:server";
/// Content of streams of external components (XEP-0114).
pub const COMPONENT: &str = "jabber:component:accept";
/// The stream element, its features and errors (RFC 6120 section 4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions of stream errors (RFC 6120 section 4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors (RFC 6120 section 8.3.2).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 section 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 section 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The session of RFC 3921, kept for old clients.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Roster (RFC 6121 section 2).
pub const ROSTER: &str = "jabber:iq:roster";
/// Feature: roster versioning (RFC 6121 section 2.6).
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// Feature: subscription pre-approval (RFC 6121 section 3.4).
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// XEP-0198 Stream Management.
pub const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";
/// XEP-0440 SASL Channel-Binding Type Capability.
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// XEP-0205: the application condition of an oversized stanza.
pub const ERRORS: &str = "urn:xmpp:errors";
/// XEP-0045 Multi-User Chat: what rooms tell their occupants.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0203 Delayed Delivery.
pub const DELAY: &str = "urn:xmpp:delay";
/// XEP-0124 BOSH: the wrapper of requests and responses.
pub const HTTP_BIND: &str = "http://jabber.org/protocol/httpbind";
/// XEP-0206 XMPP Over BOSH: attributes of the wrapper.
pub const XMPP_BOSH: &str = "urn:xmpp:xbosh";
/// XEP-0199 XMPP Ping.
pub const PING: &str = "urn:xmpp:ping";
/// XEP-0092 Software Version.
pub const VERSION: &str = "jabber:iq:version";
/// XEP-0202 Entity Time.
pub const TIME: &str = "urn:xmpp:time";
/// XEP-0049 Private XML Storage.
pub const PRIVATE: &str = "jabber:iq:private";
/// XEP-0077 In-Band Registration.
pub const REGISTER: &str = "jabber:iq:register";
/// XEP-0077 In-Band Registration: the feature before login.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// XEP-0016 Privacy Lists.
pub const PRIVACY: &str = "jabber:iq:privacy";
/// XEP-0191 Blocking Command.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191 Blocking Command: the application condition of what is not sent to somebody who is blocked.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0054 vcard-temp.
pub const VCARD: &str = "vcard-temp";
/// XEP-0055 Jabber Search.
pub const SEARCH: &str = "jabber:iq:search";
/// XEP-0012 Last Activity.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0030 Service Discovery: who it is and what it can do.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030 Service Discovery: what is there.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0115 Entity Capabilities.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// XEP-0390 Entity Capabilities 2.0.
pub const CAPS_2: &str = "urn:xmpp:caps";
/// XEP-0300 Cryptographic Hashes.
pub const HASHES: &str = "urn:xmpp:hashes:2";
/// XEP-0004 Data Forms.
pub const FORM: &str = "jabber:x:data";
/// XEP-0157 Contact Addresses: the type of the form.
pub const SERVER_INFO: &str = "http://jabber.org/network/serverinfo";
/// XEP-0160 Offline Messages: a feature of the server.
pub const OFFLINE: &str = "msgoffline";
/// XEP-0280 Message Carbons.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280 Message Carbons: which messages are copied, as the specification recommends.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0297 Stanza Forwarding.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0313 Message Archive Management.
pub const ARCHIVE: &str = "urn:xmpp:mam:2";
/// XEP-0359 Unique and Stable Stanza IDs.
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// XEP-0352 Client State Indication.
pub const CSI: &str = "urn:xmpp:csi:0";
/// XEP-0085 Chat State Notifications.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0334 Message Processing Hints.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0060 Publish-Subscribe: what subscribers are told.
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// XEP-0421 Anonymous Unique Occupant Identifiers.
pub const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// The `xml` prefix (Namespaces in XML 1.0).
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The `xmlns` prefix (Namespaces in XML 1.0).
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// `name` without an allocation if it is one of the constants.
pub(crate) fn intern(name: &str) -> Cow<'static, str> {
    match ALL.iter().find(|known| **known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_owned()),
    }
}

/// All of them.
const ALL: &[&str] = &[
    CLIENT,
    SERVER,
    STREAM,
    STREAM_ERRORS,
    STANZA_ERRORS,
    TLS,
    SASL,
    BIND,
    SESSION,
    ROSTER,
    ROSTER_VERSIONING,
    PRE_APPROVAL,
    STREAM_MANAGEMENT,
    SASL_CHANNEL_BINDING,
    ERRORS,
    MUC_USER,
    DELAY,
    PING,
    CARBONS,
    FORWARD,
    ARCHIVE,
    STANZA_ID,
    OCCUPANT_ID,
    XML,
    XMLNS,
];
