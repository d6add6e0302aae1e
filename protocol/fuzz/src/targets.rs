//! What is fuzzed: functions that panic when a property does not hold.

mod bosh;
mod jid;
mod proxy;
mod sasl;
mod websocket;
mod xml_stream;
mod xml_tree;

/// One of them.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Inputs to start with, besides the corpus.
    pub(crate) seeds: &'static [&'static [u8]],
    /// What a mutation may put in.
    pub(crate) words: &'static [&'static [u8]],
}

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    xml_stream::TARGET,
    xml_tree::TARGET,
    jid::TARGET,
    sasl::TARGET,
    bosh::TARGET,
    proxy::TARGET,
    websocket::TARGET,
];

/// Words of XML and XMPP.
const XML_WORDS: &[&[u8]] = &[
    b"<a>",
    b"</a>",
    b"<a/>",
    b"<a b='c'/>",
    b" b='c'",
    b" p:b='c'",
    b" xmlns='x'",
    b" xmlns:p='x'",
    b" xmlns=''",
    b"<p:a/>",
    b"<![CDATA[",
    b"]]>",
    b"&amp;",
    b"&lt;",
    b"&#65;",
    b"&#x41;",
    b"&#0;",
    b"&foo;",
    b"<!DOCTYPE",
    b"<!--",
    b"-->",
    b"<?xml",
    b" version='1.0'",
    b"?>",
    b"xml:lang='de'",
    b"\xef\xbb\xbf",
    b"\xef\xbf\xbe",
    b"\xed\xa0\x80",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\r\n",
    b"\t",
    b"'",
    b"\"",
    b"=",
    b"<",
    b">",
    b"&",
    b";",
    b"]]",
    b"\0",
    b"</stream:stream>",
    b"<stream:stream",
    b" xmlns='jabber:client'",
    b" xmlns='jabber:server'",
    b"<stream:a/>",
    b" xmlns:stream='http://etherx.jabber.org/streams'",
    b"<message",
    b"<presence",
    b"<iq",
    b" to='a@b/c'",
    b" from='a@b'",
    b" id='1'",
    b" type='get'",
    b" type='set'",
    b" type='result'",
    b" type='error'",
    b" type='chat'",
    b"<body>x</body>",
    b"<stanza-id xmlns='urn:xmpp:sid:0' by='ours'/>",
    b"<delay xmlns='urn:xmpp:delay' from='ours'/>",
    b"<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>",
    b"<r xmlns='urn:xmpp:sm:3'/>",
    b" xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    b" xmlns:xmlns='x'",
];
