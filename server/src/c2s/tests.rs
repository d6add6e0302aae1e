//! Streams and sessions over real sockets of a node in this process.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use daemon::config::Seconds;
use protocol::sasl::encode_base64;
use protocol::{Element, Stanza, StreamCondition, ns};
use tokio::sync::{Notify, oneshot};

use crate::auth::hashing::HASHES_WAITING_MAX;
use crate::c2s::resume::Token;
use crate::hooks::{
    Handle, Outcome, SessionClosed, Stage, UserSendIq, UserSendMessage, UserSendPresence,
};
use crate::outlet::{Batch, Flag, Order, SessionRef};
use crate::storage::accounts::{Credentials, NewAccount};
use crate::testing::{
    BYTES_BEFORE_LOGIN_MAX, Client, DOMAIN, Heard, PASSWORD, StaleH, StreamManagement, TestNode,
    header, message, soon, until,
};

/// As if its client had sent presence.
fn make_available(session: &SessionRef) {
    let presence = Stanza::from_element(&Element::new("presence", ns::CLIENT)).unwrap();
    session.set_presence(Some((Arc::new(presence), 0)));
}

/// A node with one client that manages its stream and another that does not.
async fn pair() -> (TestNode, Client, Client) {
    let node = TestNode::start().await;
    let juliet = node.client("juliet").await;
    let romeo = node.client("romeo").await;
    (node, juliet, romeo)
}

#[tokio::test]
async fn h_waits_for_a_receiver_that_has_not_acknowledged() {
    let (_node, mut juliet, mut romeo) = pair().await;
    juliet.enable().await;
    romeo.enable().await;
    juliet.chat(&romeo.jid, "1").await;
    assert_eq!(romeo.expect("message").await.attr("id"), Some("1"));
    romeo.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    juliet.acknowledged(1).await;
}

#[tokio::test]
async fn h_covers_what_a_plain_receiver_was_written() {
    let (_node, mut juliet, mut romeo) = pair().await;
    juliet.enable().await;
    juliet.chat(&romeo.jid, "1").await;
    romeo.expect("message").await;
    juliet.acknowledged(1).await;
}

#[tokio::test]
async fn presence_is_settled_when_it_is_handed_on() {
    let (node, mut juliet, mut romeo) = pair().await;
    juliet.enable().await;
    romeo.enable().await;
    let session = node.find(&romeo.jid).unwrap();
    let jid = romeo.jid.clone();
    romeo.cut();
    until(|| session.has(Flag::Detached)).await;
    juliet.send(&format!("<presence to='{jid}'/>")).await;
    // Nobody is there to acknowledge it, and no row is written for presence.
    juliet.acknowledged(1).await;
}

#[tokio::test]
async fn a_connection_that_ends_without_an_end_tag_can_be_resumed() {
    let (node, mut juliet, mut romeo) = pair().await;
    let id = romeo.enable().await;
    let session = node.find(&romeo.jid).unwrap();
    romeo.half_close().await;
    until(|| session.has(Flag::Detached)).await;
    juliet.chat(&romeo.jid, "1").await;

    let mut again = Client::logged_in(node.address, "romeo").await;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await;
    assert_eq!(again.element().await.name(), "resumed");
    assert_eq!(again.expect("message").await.attr("id"), Some("1"));
    juliet.chat(&romeo.jid, "2").await;
    assert_eq!(again.expect("message").await.attr("id"), Some("2"));
}

#[tokio::test]
async fn a_stream_that_was_closed_cannot_be_resumed() {
    let (node, _juliet, mut romeo) = pair().await;
    let id = romeo.enable().await;
    romeo.send("</stream:stream>").await;
    assert!(matches!(romeo.next().await, Heard::Close));
    let mut again = Client::logged_in(node.address, "romeo").await;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await;
    assert_eq!(again.element().await.name(), "failed");
    again.bind("test").await;
}

#[tokio::test]
async fn whoever_resumes_with_too_high_a_count_is_told_and_loses_no_message() {
    let (node, mut juliet, mut romeo) = pair().await;
    let mut other = node.session("romeo", "other").await;
    make_available(&node.find(&other.jid).unwrap());
    let id = romeo.enable().await;
    let session = node.find(&romeo.jid).unwrap();
    let jid = romeo.jid.clone();
    romeo.cut();
    until(|| session.has(Flag::Detached)).await;
    juliet.chat(&jid, "1").await;

    let mut again = Client::logged_in(node.address, "romeo").await;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='2'/>"
        ))
        .await;
    let error = again.element().await;
    let too_high = error
        .elements()
        .find(|child| child.name() == "handled-count-too-high");
    let too_high = too_high.expect("says what was wrong");
    assert_eq!(
        (too_high.attr("h"), too_high.attr("send-count")),
        (Some("2"), Some("1"))
    );
    assert!(matches!(again.next().await, Heard::Close));
    assert_eq!(other.expect("message").await.attr("id"), Some("1"));
    assert!(node.find(&jid).is_none());
}

#[tokio::test]
async fn a_claim_that_was_given_up_leaves_the_session_to_the_next() {
    let (node, _juliet, mut romeo) = pair().await;
    let id = romeo.enable().await;
    let session = node.find(&romeo.jid).unwrap();
    for is_detached in [false, true] {
        if is_detached {
            romeo.half_close().await;
            until(|| session.has(Flag::Detached)).await;
        }
        assert!(
            node.router
                .resumable
                .claim(&id, "romeo@localhost")
                .is_some()
        );
        assert!(
            node.router
                .resumable
                .claim(&id, "romeo@localhost")
                .is_none()
        );
        let (taker, gone) = oneshot::channel();
        drop(gone);
        session.order(Order::HandOver(taker));
        until(|| {
            let claimed = node.router.resumable.claim(&id, "romeo@localhost");
            claimed.is_some_and(|session| {
                node.router.resumable.put(&id, session);
                true
            })
        })
        .await;
    }
    let mut again = Client::logged_in(node.address, "romeo").await;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await;
    assert_eq!(again.element().await.name(), "resumed");
}

#[tokio::test]
async fn a_resumed_session_can_be_resumed_again_and_nobody_elses_can() {
    let (node, mut juliet, mut romeo) = pair().await;
    let id = romeo.enable().await;
    let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>");
    let mut thief = Client::logged_in(node.address, "juliet").await;
    thief.send(&resume).await;
    let failed = thief.element().await;
    assert_eq!(failed.elements().next().unwrap().name(), "item-not-found");
    // The old connection is still there, and learns why it ends.
    for _ in 0..3 {
        let mut again = Client::logged_in(node.address, "romeo").await;
        again.send(&resume).await;
        assert_eq!(again.element().await.name(), "resumed");
        assert_eq!(romeo.stream_error().await, "conflict");
        again.jid = romeo.jid.clone();
        romeo = again;
        juliet.chat(&romeo.jid, "1").await;
        romeo.expect("message").await;
    }
    assert_eq!(node.router.sessions.count(), 2);
}

#[tokio::test]
async fn the_newest_session_of_a_resource_wins_and_the_old_one_ends_first() {
    let (node, mut juliet, mut romeo) = pair().await;
    for number in 0..5 {
        let mut newer = node.session("romeo", "test").await;
        assert_eq!(newer.jid, romeo.jid);
        assert_eq!(romeo.stream_error().await, "conflict");
        juliet.chat(&newer.jid, &number.to_string()).await;
        assert_eq!(
            newer.expect("message").await.attr("id"),
            Some(&*number.to_string())
        );
        romeo = newer;
    }
    assert_eq!(node.router.sessions.count(), 2);
}

#[tokio::test]
async fn an_unknown_host_is_refused_without_naming_ours() {
    let node = TestNode::start().await;
    let mut client = Client::dial(node.address).await;
    client.send(&header("elsewhere.example")).await;
    let Heard::Header(header) = client.next().await else {
        panic!("a header comes first")
    };
    assert_eq!(header.from.as_deref(), Some("elsewhere.example"));
    assert_eq!(client.stream_error().await, "host-unknown");
}

#[tokio::test]
async fn the_name_of_the_service_can_be_hidden() {
    for hidden in [false, true] {
        let node = TestNode::start_with(|plan| plan.hide_service_name = hidden).await;
        let mut client = Client::dial(node.address).await;
        client
            .send(&header(DOMAIN).replace(" to='localhost'", ""))
            .await;
        let Heard::Header(header) = client.next().await else {
            panic!("a header comes first")
        };
        assert_eq!(header.from.as_deref(), (!hidden).then_some(DOMAIN));
        assert_eq!(client.stream_error().await, "host-unknown");
    }
}

/// What is sent instead of a login, and the stream error it gets.
const BEFORE_LOGIN: [(&str, &str); 12] = [
    ("<message/>", "not-authorized"),
    ("<presence/>", "not-authorized"),
    ("<iq type='get' id='1'/>", "not-authorized"),
    (
        "<compress xmlns='http://jabber.org/protocol/compress'/>",
        "unsupported-stanza-type",
    ),
    ("<stream:stream to='localhost' version='1.0'>", "bad-format"),
    ("<stream:unknown/>", "unsupported-stanza-type"),
    ("text", "bad-format"),
    ("</wrong>", "not-well-formed"),
    ("<!-- -->", "restricted-xml"),
    ("<a:b/>", "bad-namespace-prefix"),
    (
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/><x/>",
        "not-authorized",
    ),
    ("\u{1}", "not-well-formed"),
];

#[tokio::test]
async fn nothing_but_a_login_is_taken_before_the_login() {
    let node = TestNode::start().await;
    for (sent, condition) in BEFORE_LOGIN {
        let mut client = Client::dial(node.address).await;
        client.open().await;
        client.send(sent).await;
        assert_eq!(client.stream_error().await, condition, "{sent}");
    }
}

#[tokio::test]
async fn an_error_is_not_answered_with_an_error() {
    let (node, _juliet, mut bound) = pair().await;
    let mut unbound = Client::dial(node.address).await;
    unbound.open().await;
    for client in [&mut bound, &mut unbound] {
        client
            .send(
                "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            )
            .await;
        assert!(matches!(client.next().await, Heard::Close));
        assert!(matches!(client.next().await, Heard::End));
    }
}

#[tokio::test]
async fn an_error_before_a_new_header_comes_with_a_header_of_ours() {
    let node = TestNode::start().await;
    let mut client = Client::dial(node.address).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(client.next().await, Heard::Header(_)));
    assert_eq!(client.stream_error().await, "not-well-formed");

    let mut client = Client::dial(node.address).await;
    client.open().await;
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'>=</auth>")
        .await;
    assert_eq!(client.element().await.name(), "success");
    client.send("<message/>").await;
    assert!(
        matches!(client.next().await, Heard::Header(_)),
        "the new stream has one too"
    );
    client.expect("error").await;
}

#[tokio::test]
async fn the_last_words_arrive_although_much_was_left_unread() {
    let (_node, _juliet, mut romeo) = pair().await;
    let large = format!("<message><body>{}</body></message>", "x".repeat(500_000));
    romeo.send(&large).await;
    assert_eq!(romeo.stream_error().await, "policy-violation");
}

#[tokio::test]
async fn a_second_bind_and_the_session_request_are_answered() {
    let (_node, _juliet, mut romeo) = pair().await;
    romeo.send(&crate::testing::bind_request("more")).await;
    let refused = romeo.element().await;
    assert_eq!(refused.attr("type"), Some("error"));
    assert!(
        refused
            .child("error", ns::CLIENT)
            .unwrap()
            .elements()
            .any(|e| e.name() == "not-allowed")
    );
    romeo
        .send(&format!(
            "<iq type='set' id='s'><session xmlns='{}'/></iq>",
            ns::SESSION
        ))
        .await;
    assert_eq!(romeo.element().await.attr("type"), Some("result"));
}

#[tokio::test]
async fn everything_may_be_sent_in_one_segment() {
    let node = TestNode::start().await;
    let mut client = Client::dial(node.address).await;
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'>=</auth>";
    let bind = crate::testing::bind_request("test");
    let ping = "<iq type='get' id='last' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    client
        .send(&[&header(DOMAIN), auth, &header(DOMAIN), &bind, ping].concat())
        .await;
    let mut names = Vec::new();
    loop {
        match client.next().await {
            Heard::Header(_) => names.push("header".to_owned()),
            Heard::Element(element) => {
                names.push(element.name().to_owned());
                if element.attr("id") == Some("last") {
                    break;
                }
            }
            other => panic!("heard {other:?}"),
        }
    }
    assert_eq!(
        names,
        [
            "header", "features", "success", "header", "features", "iq", "iq"
        ]
    );
}

#[tokio::test]
async fn guessing_is_cut_off_after_three_attempts() {
    let node = TestNode::start().await;
    let mut client = Client::dial(node.address).await;
    client.open().await;
    for _ in 0..2 {
        client
            .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")
            .await;
        assert_eq!(
            client.element().await.elements().next().unwrap().name(),
            "encryption-required"
        );
    }
    client
        .send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        .await;
    assert_eq!(
        client.element().await.elements().next().unwrap().name(),
        "aborted"
    );
    assert_eq!(client.stream_error().await, "policy-violation");
}

#[tokio::test]
async fn a_node_that_leaves_tells_everybody_and_takes_nobody_in() {
    let (node, _juliet, mut romeo) = pair().await;
    romeo.enable().await;
    let mut late = Client::logged_in(node.address, "romeo").await;
    let mut later = Client::dial(node.address).await;
    later.send(&header(DOMAIN)).await;
    assert!(matches!(later.next().await, Heard::Header(_)));
    node.shutdown.begin();
    assert_eq!(romeo.stream_error().await, "system-shutdown");
    assert_eq!(late.stream_error().await, "system-shutdown");
    assert_eq!(later.stream_error().await, "system-shutdown");
    node.stop().await;
}

#[tokio::test]
async fn who_comes_too_late_is_told_what_was_handled() {
    let node = TestNode::start_with(|plan| {
        plan.hosts[0].modules.stream_management = Some(StreamManagement {
            resume_timeout: Seconds(0),
            stale_h: StaleH {
                enabled: true,
                ..StaleH::default()
            },
            ..StreamManagement::default()
        });
    })
    .await;
    let mut romeo = node.client("romeo").await;
    let id = romeo.enable().await;
    romeo.chat("nobody@localhost", "1").await;
    romeo.expect("message").await;
    let jid = romeo.jid.clone();
    romeo.cut();
    until(|| node.find(&jid).is_none()).await;
    let mut again = Client::logged_in(node.address, "romeo").await;
    again
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='1'/>"
        ))
        .await;
    let failed = again.element().await;
    assert_eq!((failed.name(), failed.attr("h")), ("failed", Some("1")));
    again.bind("test").await;
}

#[tokio::test]
async fn without_a_buffer_nothing_can_be_resumed() {
    let node = TestNode::start_with(|plan| {
        plan.hosts[0].modules.stream_management = Some(StreamManagement {
            buffer: false,
            ..StreamManagement::default()
        });
    })
    .await;
    let mut juliet = node.client("juliet").await;
    let mut romeo = node.client("romeo").await;
    for client in [&mut juliet, &mut romeo] {
        client
            .send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            .await;
        assert_eq!(client.expect("enabled").await.attr("id"), None);
    }
    juliet.chat(&romeo.jid, "1").await;
    romeo.expect("message").await;
    // Written to a client that is not waited for.
    juliet.acknowledged(1).await;
}

/// Does what a test says.
struct Handler {
    entered: Notify,
    may_go_on: Notify,
    closed: AtomicUsize,
}

impl Handler {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            entered: Notify::new(),
            may_go_on: Notify::new(),
            closed: AtomicUsize::new(0),
        })
    }
}

impl Handle<UserSendIq> for Handler {
    async fn handle(
        &self,
        _: &mut crate::c2s::session::Session,
        _: &mut UserSendIq,
    ) -> Outcome<UserSendIq> {
        self.entered.notify_one();
        self.may_go_on.notified().await;
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<UserSendPresence> for Handler {
    async fn handle(
        &self,
        _: &mut crate::c2s::session::Session,
        _: &mut UserSendPresence,
    ) -> Outcome<UserSendPresence> {
        panic!("on purpose");
    }
}

impl Handle<SessionClosed> for Handler {
    async fn handle(
        &self,
        _: &mut crate::c2s::session::Session,
        _: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        self.closed.fetch_add(1, Ordering::Relaxed);
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<UserSendMessage> for Handler {
    async fn handle(
        &self,
        _: &mut crate::c2s::session::Session,
        _: &mut UserSendMessage,
    ) -> Outcome<UserSendMessage> {
        Ok(ControlFlow::Continue(()))
    }
}

#[tokio::test]
async fn a_slow_handler_holds_nobodys_stanzas_back() {
    let node = TestNode::start().await;
    let handler = Handler::new();
    let slow = handler.clone();
    node.use_hooks(|hooks| hooks.add::<UserSendIq, _>(Stage::Filter, "test", &slow))
        .await;
    let mut juliet = Client::anonymous(node.address).await;
    let mut romeo = Client::anonymous(node.address).await;
    let message = format!("<message to='{}' id='1'/>", romeo.jid);
    let slow = format!(
        "<iq type='get' id='2' to='{}'><x xmlns='x'/></iq>",
        romeo.jid
    );
    juliet.send(&[message, slow].concat()).await;
    assert_eq!(romeo.element().await.attr("id"), Some("1"));
    soon(handler.entered.notified()).await;
    handler.may_go_on.notify_one();
    assert_eq!(romeo.element().await.attr("id"), Some("2"));
}

#[tokio::test]
async fn a_session_whose_task_panics_ends_like_any_other() {
    let node = TestNode::start().await;
    let handler = Handler::new();
    node.use_hooks(|hooks| {
        hooks.add::<UserSendPresence, _>(Stage::Filter, "test", &handler);
        hooks.add::<SessionClosed, _>(Stage::Observe, "test", &handler);
    })
    .await;
    let mut juliet = Client::anonymous(node.address).await;
    let mut romeo = Client::anonymous(node.address).await;
    let jid = romeo.jid.clone();
    romeo.send("<presence/>").await;
    assert!(matches!(romeo.next().await, Heard::End));
    until(|| node.find(&jid).is_none()).await;
    juliet.send(&format!("<message to='{jid}' id='1'/>")).await;
    assert_eq!(juliet.element().await.attr("type"), Some("error"));
    assert_eq!(handler.closed.load(Ordering::Relaxed), 1);
    assert_eq!(node.router.sessions.count(), 1);
}

#[tokio::test]
async fn what_found_another_way_is_not_written_to_a_stuck_reader_as_well() {
    let node = TestNode::start().await;
    let mut stuck = node.client("romeo").await;
    let mut other = node.session("romeo", "other").await;
    make_available(&node.find(&other.jid).unwrap());
    let session = node.find(&stuck.jid).unwrap();
    // One stanza per write, so that only one can be written in part: it is the last of these.
    let mut pushed = Vec::new();
    while session.is_drained() {
        let id = pushed.len().to_string();
        let mut batch = Batch::new(&node.router.ledger);
        let token = Token {
            session: u64::MAX,
            stanza: 1,
        };
        session.push(message(&stuck.jid, &id, 8_000), Some(token), &mut batch);
        batch.flush();
        pushed.push(id);
    }
    let error = StreamCondition::SystemShutdown.into();
    session.order(Order::Close(error, "drained"));
    let rerouted = other.expect("message").await;
    let last = pushed.pop().unwrap();
    assert_eq!(rerouted.attr("id"), Some(last.as_str()));
    // Now it reads again: whole stanzas, and the connection's end amid the last one.
    for id in pushed {
        assert_eq!(stuck.expect("message").await.attr("id"), Some(id.as_str()));
    }
    assert!(matches!(stuck.next().await, Heard::End));
}

/// Security case A12. The account is one of an operator who keeps plain passwords, so that SCRAM has to hash too.
#[tokio::test]
async fn a_login_is_refused_for_now_where_too_many_passwords_wait_to_be_hashed() {
    let node = TestNode::start().await;
    let host = node.router.host(DOMAIN).unwrap();
    let plain = NewAccount {
        username: "juliet".into(),
        domain: DOMAIN.into(),
        credentials: Credentials {
            password: PASSWORD.into(),
            pass_details: None,
        },
    };
    host.auth.store().create_many(vec![plain]).await.unwrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut turns: Vec<_> = (0..HASHES_WAITING_MAX + (cores / 2).max(1))
        .map(|_| Box::pin(host.auth.hashing().turn()))
        .collect();
    let mut held = Vec::new();
    for turn in &mut turns {
        let mut now = Context::from_waker(Waker::noop());
        if let Poll::Ready(turn) = turn.as_mut().poll(&mut now) {
            held.push(turn.unwrap());
        }
    }
    let start = format!(
        "<auth xmlns='{}' mechanism='SCRAM-SHA-1'>{}</auth>",
        ns::SASL,
        encode_base64(b"n,,n=juliet,r=abcdefghijkl")
    );
    let mut client = Client::dial(node.address).await;
    client.open().await;
    client.send(&start).await;
    let failure = client.element().await;
    assert!(failure.is("failure", ns::SASL));
    assert!(failure.child("temporary-auth-failure", ns::SASL).is_some());
    assert_eq!(node.router.metrics.logins.hashes_refused.get(), 1);
    // The queue is gone, and the next attempt on the same stream succeeds.
    drop((held, turns));
    client.authenticate("juliet").await;
}

/// Security case R02: of two who bind the same resource at the same moment one has it in the end, and the other is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r02_of_two_who_bind_a_resource_at_once_one_stays() {
    let node = TestNode::start().await;
    node.register("romeo").await;
    for _ in 0..50 {
        let (mut one, mut other) = tokio::join!(
            Client::logged_in(node.address, "romeo"),
            Client::logged_in(node.address, "romeo"),
        );
        tokio::join!(one.bind("home"), other.bind("home"));
        assert_eq!(one.jid, other.jid);
        let (loser, mut winner) = tokio::select! {
            error = one.stream_error() => (error, other),
            error = other.stream_error() => (error, one),
        };
        assert_eq!(loser, "conflict");
        let to_itself = winner.jid.clone();
        winner.chat(&to_itself, "1").await;
        assert_eq!(winner.element().await.attr("id"), Some("1"));
        assert_eq!(node.router.sessions.count(), 1);
        winner.send("</stream:stream>").await;
        assert!(matches!(winner.next().await, Heard::Close));
    }
}

/// What a client may send before its login is limited as a whole, so that no shaper is needed for it.
#[tokio::test]
async fn a_flood_before_the_login_ends_the_stream() {
    let node = TestNode::start().await;
    let mut client = Client::dial(node.address).await;
    client.open().await;
    client.send(&" ".repeat(BYTES_BEFORE_LOGIN_MAX + 1)).await;
    assert_eq!(client.stream_error().await, "policy-violation");
    // Up to the limit it is a sign of life.
    let mut client = Client::dial(node.address).await;
    client.open().await;
    client.send(&" ".repeat(BYTES_BEFORE_LOGIN_MAX / 2)).await;
    node.register("romeo").await;
    client.authenticate("romeo").await;
}

/// Security cases X18 and 4.1: who has used up its rate is not read for a while, and hears all the same.
#[tokio::test]
async fn a_client_over_its_rate_is_not_read_for_a_while_and_goes_on_hearing() {
    const RATE: u32 = 20_000;
    let node =
        TestNode::start_with(|plan| plan.listeners[0].settings.shaper_rate = Some(RATE)).await;
    let mut juliet = node.client("juliet").await;
    let mut romeo = node.client("romeo").await;
    let (from_romeo, from_juliet) = (juliet.jid.clone(), romeo.jid.clone());
    // Four seconds are saved up, and two more seconds' worth is sent.
    let body = "x".repeat(10_000);
    let flood: String = (0..12)
        .map(|id| format!("<message to='{from_romeo}' id='{id}'><body>{body}</body></message>"))
        .collect();
    let began = tokio::time::Instant::now();
    let (flooded, ()) = tokio::join!(
        async {
            let mut last = juliet.expect("message").await;
            while last.attr("id") != Some("11") {
                last = juliet.expect("message").await;
            }
            began.elapsed()
        },
        romeo.send(&flood)
    );
    romeo
        .send("<iq type='get' id='late'><query xmlns='urn:unknown'/></iq>")
        .await;
    juliet.chat(&from_juliet, "meanwhile").await;
    assert_eq!(romeo.element().await.attr("id"), Some("meanwhile"));
    let heard = began.elapsed();
    assert_eq!(romeo.element().await.attr("id"), Some("late"));
    let debt = Duration::from_secs(1);
    assert!(began.elapsed() >= debt, "read after {:?}", began.elapsed());
    assert!(heard < began.elapsed() && flooded <= heard);
}

/// Security case N16: a port has so many connections and no more, and a place that is given up is free.
#[tokio::test]
async fn n16_a_port_has_as_many_connections_as_it_may_have() {
    let node = TestNode::start_with(|plan| plan.listeners[0].settings.connections_max = 2).await;
    let mut first = Client::dial(node.address).await;
    first.open().await;
    let mut second = Client::dial(node.address).await;
    second.open().await;
    let mut third = Client::dial(node.address).await;
    assert!(matches!(third.next().await, Heard::End));
    // Those who are there go on.
    node.register("romeo").await;
    first.authenticate("romeo").await;
    second.send("</stream:stream>").await;
    assert!(matches!(second.next().await, Heard::Close));
    drop(second);
    until(|| node.router.metrics.connections.get() == 1).await;
    let mut next = Client::dial(node.address).await;
    next.open().await;
}

/// Security case A11: who waits for a turn holds up nothing, not even the end of the node.
#[tokio::test]
async fn a11_a_guesser_who_waits_hears_that_it_has_to_go() {
    let node = TestNode::start().await;
    let account = node.register("juliet").await;
    let loopback = node.address.ip();
    for _ in 0..20 {
        node.router.throttle.failed(account.as_str(), loopback);
    }
    let mut client = Client::dial(node.address).await;
    client.open().await;
    let sasl = ns::SASL;
    let first = encode_base64(b"n,,n=juliet,r=abcdefghijkl");
    client
        .send(&format!(
            "<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'>{first}</auth>"
        ))
        .await;
    assert_eq!(client.element().await.name(), "challenge");
    let guess = encode_base64(b"c=biws,r=abcdefghijkl,p=AAAA");
    client
        .send(&format!("<response xmlns='{sasl}'>{guess}</response>"))
        .await;
    until(|| node.router.metrics.logins.guesses_delayed.get() == 1).await;
    node.shutdown.begin();
    assert_eq!(client.stream_error().await, "system-shutdown");
    soon(node.running).await.unwrap();
}
