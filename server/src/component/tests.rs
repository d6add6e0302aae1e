//! Components that keep to the rules, and others.
use protocol::component::handshake;
use protocol::{Element, ns};
use transport::ListenOptions;

use super::*;
use crate::access::{AccessClause, AccessConfig, AccessValue, AclConfig};
use crate::testing::{
    Client, ComponentPlan, Disco, Heard, NodePlan, Presence, Roster, TestNode, listener_settings,
    until,
};

const SECRET: &str = "s3&cr'et";
const GATEWAY: &str = "gateway.localhost";

fn settings() -> Settings {
    Settings {
        secret: daemon::Secret::new(SECRET),
        access: "all".into(),
        rules: Arc::default(),
        check_from: true,
        conflict_behaviour: ConflictBehaviour::Disconnect,
        is_hidden: false,
    }
}

async fn node() -> TestNode {
    node_with(|_| {}).await
}

/// A node with one port for components.
async fn node_with(change: impl FnOnce(&mut ComponentPlan)) -> TestNode {
    TestNode::start_with(|plan| add_port(plan, change)).await
}

fn add_port(plan: &mut NodePlan, change: impl FnOnce(&mut ComponentPlan)) {
    let mut port = ComponentPlan {
        address: "127.0.0.1:0".parse().unwrap(),
        options: ListenOptions::default(),
        settings: listener_settings(),
        component: settings(),
    };
    change(&mut port);
    plan.components.push(port);
}

fn header(domain: &str) -> String {
    let (content, stream) = (ns::COMPONENT, ns::STREAM);
    format!("<stream:stream xmlns='{content}' xmlns:stream='{stream}' to='{domain}'>")
}

/// A connection that has a header; gives the stream's id, too.
async fn dial(node: &TestNode, domain: &str) -> (Client, String) {
    let mut client = Client::dial(node.components[0]).await;
    client.send(&header(domain)).await;
    let Heard::Header(header) = client.next().await else {
        panic!("expected a header");
    };
    assert_eq!(&*header.content_ns, ns::COMPONENT);
    assert_eq!(header.from.as_deref(), Some(domain));
    assert_eq!(header.version, None, "nobody waits for features");
    (client, header.id.unwrap().into())
}

async fn prove(client: &mut Client, id: &str, secret: &str) {
    let digest = handshake(id, secret);
    client
        .send(&format!("<handshake>{digest}</handshake>"))
        .await;
}

async fn connect(node: &TestNode, domain: &str) -> Client {
    let (mut client, id) = dial(node, domain).await;
    prove(&mut client, &id, SECRET).await;
    assert!(client.element().await.is("handshake", ns::COMPONENT));
    client
}

/// The condition of a stanza error.
fn condition(stanza: &Element) -> &str {
    assert_eq!(stanza.attr("type"), Some("error"), "{}", stanza.to_xml());
    let error = stanza.elements().find(|child| child.name() == "error");
    let conditions = error.expect("it has one").elements();
    let mut conditions = conditions.filter(|child| child.ns() == ns::STANZA_ERRORS);
    conditions.next().map_or("", Element::name)
}

#[tokio::test]
async fn a_component_writes_and_is_written_to() {
    let node = node().await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    romeo
        .send(&format!(
            "<message to='room@{GATEWAY}/x' id='1'><body>hi</body></message>"
        ))
        .await;
    let message = gateway.element().await;
    assert!(message.is("message", ns::COMPONENT));
    assert_eq!(message.attr("from"), Some("romeo@localhost/test"));
    assert_eq!(message.attr("to"), Some("room@gateway.localhost/x"));
    let body = message.child("body", ns::COMPONENT);
    assert_eq!(body.expect("it has one").text(), "hi");

    let body = "<body>ho</body><x xmlns='http://jabber.org/protocol/muc#user'><item/></x>";
    gateway
        .send(&format!(
            "<message from='room@{GATEWAY}/x' to='romeo@localhost/test' id='2'>{body}</message>"
        ))
        .await;
    let message = romeo.element().await;
    assert!(message.is("message", ns::CLIENT));
    assert_eq!(message.attr("from"), Some("room@gateway.localhost/x"));
    let body = message.child("body", ns::CLIENT);
    assert_eq!(body.expect("it has one").text(), "ho");
    assert!(message.child("x", ns::MUC_USER).is_some());
    node.stop().await;
}

#[tokio::test]
async fn requests_find_their_answers_in_both_directions() {
    let node = node().await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    let ask = |to: &str, from: &str| {
        format!("<iq type='get' id='q' to='{to}'{from}><a xmlns='urn:a'/></iq>")
    };
    romeo.send(&ask(GATEWAY, "")).await;
    let request = gateway.element().await;
    assert!(request.is("iq", ns::COMPONENT));
    gateway
        .send(&format!(
            "<iq type='result' id='q' from='{GATEWAY}' to='romeo@localhost/test'/>"
        ))
        .await;
    let answer = romeo.element().await;
    assert_eq!(answer.attr("type"), Some("result"));

    let from = format!(" from='nick@{GATEWAY}/x'");
    for (to, expected) in [
        ("localhost", "service-unavailable"),
        ("romeo@localhost", "service-unavailable"),
        ("nobody@localhost/x", "service-unavailable"),
        ("elsewhere.example", "remote-server-not-found"),
    ] {
        gateway.send(&ask(to, &from)).await;
        let answer = gateway.element().await;
        assert_eq!(answer.attr("to"), Some("nick@gateway.localhost/x"));
        assert_eq!(condition(&answer), expected, "{to}");
    }
    gateway.send(&ask("romeo@localhost/test", &from)).await;
    assert_eq!(
        romeo.element().await.attr("from"),
        Some("nick@gateway.localhost/x")
    );
    node.stop().await;
}

#[tokio::test]
async fn a_component_may_be_any_domain_that_is_not_ours() {
    let node = node().await;
    let mut foreign = connect(&node, "irc.example.org").await;
    let mut gateway = connect(&node, GATEWAY).await;
    gateway
        .send(&format!(
            "<presence from='{GATEWAY}' to='a@irc.example.org' type='subscribe'/>"
        ))
        .await;
    let presence = foreign.element().await;
    assert_eq!(
        presence.attr("from"),
        Some(GATEWAY),
        "its bare domain is legal"
    );
    // To itself, too.
    gateway
        .send(&format!("<message from='a@{GATEWAY}' to='b@{GATEWAY}'/>"))
        .await;
    assert_eq!(gateway.element().await.name(), "message");
    node.stop().await;
}

/// Security case S23.
#[tokio::test]
async fn s23_a_component_proves_who_it_is() {
    let node = node().await;
    let refused = async |domain: &str, sent: &str| {
        let (mut client, _) = dial(&node, domain).await;
        client.send(sent).await;
        client.stream_error().await
    };
    let digest = handshake("another-id", SECRET);
    for sent in [
        format!("<handshake>{digest}</handshake>"),
        "<handshake/>".to_owned(),
        format!("<handshake xmlns='jabber:client'>{digest}</handshake>"),
        format!("<message from='{GATEWAY}' to='localhost'/>"),
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>".to_owned(),
    ] {
        assert_eq!(refused(GATEWAY, &sent).await, "not-authorized", "{sent}");
    }
    let (mut client, id) = dial(&node, GATEWAY).await;
    prove(&mut client, &id, "another secret").await;
    assert_eq!(client.stream_error().await, "not-authorized");
    // Whoever asks for one of our domains learns that only with the secret.
    let (mut client, _) = dial(&node, "localhost").await;
    client.send("<handshake>0</handshake>").await;
    assert_eq!(client.stream_error().await, "not-authorized");
    let (mut client, id) = dial(&node, "localhost").await;
    prove(&mut client, &id, SECRET).await;
    assert_eq!(client.stream_error().await, "conflict");
    // Digits of either case.
    let (mut client, id) = dial(&node, GATEWAY).await;
    let digest = handshake(&id, SECRET).to_uppercase();
    client
        .send(&format!("<handshake>{digest}</handshake>"))
        .await;
    assert_eq!(client.element().await.name(), "handshake");
    assert_eq!(node.router.metrics.components.handshakes.failed.get(), 4);
    node.stop().await;
}

#[tokio::test]
async fn headers_of_another_kind_are_refused() {
    let node = node().await;
    let (content, stream) = (ns::COMPONENT, ns::STREAM);
    for (sent, expected) in [
        (header(""), "host-unknown"),
        (header("room@gateway.localhost"), "host-unknown"),
        (header("a b"), "host-unknown"),
        (
            format!("<stream:stream xmlns='{content}' xmlns:stream='{stream}'>"),
            "host-unknown",
        ),
        (
            format!("<stream:stream xmlns='jabber:client' xmlns:stream='{stream}' to='a'>"),
            "invalid-namespace",
        ),
        (
            "<handshake xmlns='jabber:component:accept'/>".into(),
            "bad-format",
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), "not-well-formed"),
    ] {
        let mut client = Client::dial(node.components[0]).await;
        client.send(&sent).await;
        assert!(matches!(client.next().await, Heard::Header(_)), "{sent}");
        assert_eq!(client.stream_error().await, expected, "{sent}");
    }
    node.stop().await;
}

/// Security case S23.
#[tokio::test]
async fn s23_of_two_for_one_domain_the_first_stays() {
    let node = node().await;
    let mut first = connect(&node, GATEWAY).await;
    let (mut second, id) = dial(&node, GATEWAY).await;
    prove(&mut second, &id, SECRET).await;
    assert_eq!(second.stream_error().await, "conflict");
    first.send("</stream:stream>").await;
    assert!(matches!(first.next().await, Heard::Close));
    let _third = connect(&node, GATEWAY).await;
    node.stop().await;
}

#[tokio::test]
async fn or_the_second_if_the_port_says_so() {
    let node = node_with(|port| {
        port.component.conflict_behaviour = ConflictBehaviour::KickOld;
    })
    .await;
    let mut first = connect(&node, GATEWAY).await;
    let mut second = connect(&node, GATEWAY).await;
    assert_eq!(first.stream_error().await, "conflict");
    let mut romeo = node.client("romeo").await;
    romeo.chat(GATEWAY, "1").await;
    assert_eq!(second.element().await.attr("id"), Some("1"));
    assert_eq!(node.router.components.count(), 1);
    node.stop().await;
}

/// Security case S23.
#[tokio::test]
async fn s23_a_component_speaks_for_its_domain_alone() {
    let node = node().await;
    for from in [
        "",
        " from='localhost'",
        " from='romeo@localhost'",
        " from='x@sub.gateway.localhost'",
        " from='x@gateway.localhost.evil'",
        " from='@'",
    ] {
        let mut gateway = connect(&node, GATEWAY).await;
        gateway
            .send(&format!("<message{from} to='romeo@localhost'/>"))
            .await;
        assert_eq!(gateway.stream_error().await, "invalid-from", "{from}");
        until(|| node.router.components.count() == 0).await;
    }
    node.stop().await;

    let node = node_with(|port| port.component.check_from = false).await;
    let mut romeo = node.client("romeo").await;
    let mut gateway = connect(&node, GATEWAY).await;
    gateway
        .send("<message from='anybody@elsewhere.example' to='romeo@localhost/test'/>")
        .await;
    let message = romeo.element().await;
    assert_eq!(message.attr("from"), Some("anybody@elsewhere.example"));
    node.stop().await;
}

#[tokio::test]
async fn stanzas_that_cannot_be_routed_are_answered_and_the_stream_stays() {
    let node = node().await;
    let mut gateway = connect(&node, GATEWAY).await;
    let large = "x".repeat(70_000);
    for (sent, expected) in [
        (format!("<message from='{GATEWAY}' id='1'/>"), "bad-request"),
        (
            format!("<message from='{GATEWAY}' to='a@b@c' id='1'/>"),
            "jid-malformed",
        ),
        (
            format!("<iq from='{GATEWAY}' to='localhost' type='get' id='1'/>"),
            "bad-request",
        ),
        (
            format!("<message from='{GATEWAY}' to='a@localhost' id='1'>{large}</message>"),
            "not-allowed",
        ),
    ] {
        gateway.send(&sent).await;
        assert_eq!(condition(&gateway.element().await), expected);
    }
    // Nobody is told of what must not be answered.
    gateway
        .send(&format!(
            "<message from='{GATEWAY}' to='a@localhost' type='error' id='1'/>"
        ))
        .await;
    gateway.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(gateway.stream_error().await, "unsupported-stanza-type");
    node.stop().await;
}

#[tokio::test]
async fn who_writes_to_nobody_is_told() {
    let node = node().await;
    let mut romeo = node.client("romeo").await;
    romeo.chat("a@gateway.localhost", "1").await;
    assert_eq!(condition(&romeo.element().await), "remote-server-not-found");
    let mut gateway = connect(&node, GATEWAY).await;
    gateway.send("</stream:stream>").await;
    assert!(matches!(gateway.next().await, Heard::Close));
    romeo
        .send(&format!("<presence to='a@{GATEWAY}' id='p'/>"))
        .await;
    romeo.chat("a@gateway.localhost", "2").await;
    let answer = romeo.element().await;
    assert_eq!(answer.attr("id"), Some("2"), "presence is state");
    assert_eq!(condition(&answer), "service-unavailable");
    // A connection that is cut is noticed as well.
    connect(&node, GATEWAY).await.cut();
    until(|| node.router.components.count() == 0).await;
    romeo.chat("a@gateway.localhost", "3").await;
    assert_eq!(condition(&romeo.element().await), "service-unavailable");
    node.stop().await;
}

/// Security case S24.
#[tokio::test]
async fn s24_a_component_that_does_not_read_is_closed_and_its_writers_are_told() {
    let node = node().await;
    let gateway = connect(&node, GATEWAY).await;
    gateway.keep_little_unread();
    let mut romeo = node.client("romeo").await;
    let body = "x".repeat(60_000);
    let mut sent = 0_u64;
    while node.router.metrics.ledger.slow_readers_closed.get() == 0 {
        let batch = (0..10).map(|_| {
            sent += 1;
            format!("<message to='a@{GATEWAY}' id='{sent}'><body>{body}</body></message>")
        });
        romeo.send(&batch.collect::<String>()).await;
        let of = |node: &TestNode| {
            node.router
                .metrics
                .components
                .stanzas_delivered
                .message
                .get()
        };
        until(|| of(&node) + node.router.metrics.stanzas_bounced.get() >= sent).await;
    }
    let gauge = &node.router.metrics.components.connections;
    until(|| gauge.get() == 0).await;
    romeo.chat("romeo@localhost/test", "end").await;
    let (mut conditions, mut ids) = (Vec::new(), Vec::new());
    loop {
        let stanza = romeo.element().await;
        let id = stanza.attr("id").unwrap();
        if id == "end" {
            break;
        }
        ids.push(id.parse::<u64>().unwrap());
        conditions.push(condition(&stanza).to_owned());
    }
    // What came after its end was answered at once, before what had waited for it.
    ids.sort_unstable();
    let first = sent + 1 - ids.len() as u64;
    assert!(ids.iter().copied().eq(first..=sent), "each once: {ids:?}");
    let bytes = conditions.len() * body.len();
    assert!(bytes <= OUTLET_BYTES_MAX as usize * 2, "{bytes}");
    // What had waited could not be written; what came after the end found nobody there.
    let (waited, late): (Vec<_>, Vec<_>) = conditions
        .iter()
        .partition(|it| *it == "recipient-unavailable");
    assert!(
        late.iter().all(|it| *it == "service-unavailable"),
        "{late:?}"
    );
    let bytes = waited.len() * body.len();
    assert!(bytes >= OUTLET_BYTES_MAX as usize / 2, "{bytes}");
    node.stop().await;
}

/// What is acknowledged to a client was written to the component, answered, or stands in the database.
#[tokio::test]
async fn stanzas_for_a_component_are_settled_as_those_for_anybody() {
    let node = node().await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    romeo.enable().await;
    romeo.chat(&format!("a@{GATEWAY}"), "1").await;
    romeo.acknowledged(1).await;
    assert_eq!(gateway.element().await.attr("id"), Some("1"));
    gateway.send("</stream:stream>").await;
    assert!(matches!(gateway.next().await, Heard::Close));
    romeo.chat(&format!("a@{GATEWAY}"), "2").await;
    assert_eq!(
        condition(&romeo.expect("message").await),
        "service-unavailable"
    );
    romeo.acknowledged(2).await;

    // It reads nothing: what its socket does not take is committed.
    let gateway = connect(&node, GATEWAY).await;
    gateway.keep_little_unread();
    let body = "x".repeat(50_000);
    let rows = &node.router.metrics.ledger.in_flight_rows;
    let mut sent = 2;
    while rows.get() == 0 {
        let message = format!("<message to='a@{GATEWAY}'><body>{body}</body></message>");
        romeo.send(&message.repeat(5)).await;
        sent += 5;
        romeo.acknowledged(sent).await;
    }
    node.stop().await;
}

/// The connection that takes the place of another gets what that has not taken.
#[tokio::test]
async fn what_was_not_written_goes_to_the_connection_that_comes_after() {
    let node = node_with(|port| {
        port.component.conflict_behaviour = ConflictBehaviour::KickOld;
    })
    .await;
    let first = connect(&node, GATEWAY).await;
    first.keep_little_unread();
    let mut romeo = node.client("romeo").await;
    romeo.enable().await;
    let body = "x".repeat(50_000);
    let rows = &node.router.metrics.ledger.in_flight_rows;
    let mut sent = 0;
    while rows.get() == 0 {
        sent += 1;
        romeo
            .send(&format!(
                "<message to='a@{GATEWAY}' id='{sent}'><body>{body}</body></message>"
            ))
            .await;
        romeo.acknowledged(sent).await;
    }
    let mut second = connect(&node, GATEWAY).await;
    let message = second.element().await;
    let mut id: u32 = message.attr("id").unwrap().parse().unwrap();
    while id < sent {
        let next: u32 = second.element().await.attr("id").unwrap().parse().unwrap();
        assert_eq!(next, id + 1, "in order, none missing");
        id = next;
    }
    drop(first);
    node.stop().await;
}

#[tokio::test]
async fn a_rule_says_who_may_write_to_a_component() {
    let clause = |acl: &str, value| AccessClause {
        acl: acl.into(),
        value,
    };
    let access = AccessConfig::from([(
        "gateways".to_owned(),
        vec![clause("all", AccessValue::Deny)],
    )]);
    let rules = AccessRules::new(&AclConfig::new(), &access).unwrap();
    let node = node_with(|port| {
        port.component.rules = Arc::new(rules);
        port.component.access = "gateways".into();
    })
    .await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    romeo.chat(GATEWAY, "1").await;
    assert_eq!(condition(&romeo.element().await), "not-allowed");
    // The component may still write.
    gateway
        .send(&format!(
            "<message from='{GATEWAY}' to='romeo@localhost/test' id='2'/>"
        ))
        .await;
    assert_eq!(romeo.element().await.attr("id"), Some("2"));
    node.stop().await;
}

/// XEP-0030: they are found at the domain that they lie below.
#[tokio::test]
async fn components_are_found_unless_they_are_hidden() {
    let node = TestNode::start_with(|plan| {
        plan.hosts[0].modules.disco = Some(Disco {
            extra_domains: vec!["shop.example".into(), GATEWAY.into()],
            ..Disco::default()
        });
        add_port(plan, |_| {});
        add_port(plan, |port| port.component.is_hidden = true);
    })
    .await;
    let _first = connect(&node, GATEWAY).await;
    let _second = connect(&node, "rooms.localhost").await;
    let _foreign = connect(&node, "irc.example.org").await;
    let _alike = connect(&node, "notlocalhost").await;
    let mut hidden = Client::dial(node.components[1]).await;
    hidden.send(&header("hidden.localhost")).await;
    let Heard::Header(header) = hidden.next().await else {
        panic!("expected a header");
    };
    prove(&mut hidden, &header.id.unwrap(), SECRET).await;
    assert_eq!(hidden.element().await.name(), "handshake");

    let mut romeo = node.client("romeo").await;
    let items = ns::DISCO_ITEMS;
    romeo
        .send(&format!(
            "<iq type='get' id='1' to='localhost'><query xmlns='{items}'/></iq>"
        ))
        .await;
    let answer = romeo.element().await;
    let query = answer.child("query", items).unwrap();
    let found: Vec<_> = query
        .elements()
        .filter_map(|item| item.attr("jid"))
        .collect();
    assert_eq!(found, ["shop.example", GATEWAY, "rooms.localhost"]);
    node.stop().await;
}

/// RFC 6121 section 3: a user and somebody at a gateway become contacts.
#[tokio::test]
async fn subscriptions_and_presence_go_to_components_and_come_from_them() {
    let node = TestNode::start_with(|plan| {
        plan.hosts[0].modules.roster = Some(Roster::default());
        plan.hosts[0].modules.presence = Some(Presence::default());
        add_port(plan, |_| {});
    })
    .await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    romeo.send("<presence><show>away</show></presence>").await;
    assert_eq!(romeo.element().await.name(), "presence");
    romeo
        .send(&format!("<presence type='subscribe' to='nick@{GATEWAY}'/>"))
        .await;
    let request = gateway.element().await;
    assert_eq!(request.attr("type"), Some("subscribe"));
    assert_eq!(request.attr("from"), Some("romeo@localhost"));
    for stanza_type in ["subscribed", "subscribe"] {
        gateway
            .send(&format!(
                "<presence type='{stanza_type}' from='nick@{GATEWAY}' to='romeo@localhost'/>"
            ))
            .await;
    }
    let request = loop {
        let presence = romeo.expect("presence").await;
        if presence.attr("type") == Some("subscribe") {
            break presence;
        }
    };
    assert_eq!(request.attr("from"), Some("nick@gateway.localhost"));
    romeo
        .send(&format!(
            "<presence type='subscribed' to='nick@{GATEWAY}'/>"
        ))
        .await;
    // Approved, and shown what there is.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let presence = gateway.element().await;
        seen.push(presence.attr("type").unwrap_or("available").to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["available", "subscribed"]);
    romeo.send("</stream:stream>").await;
    let presence = gateway.element().await;
    assert_eq!(presence.attr("type"), Some("unavailable"));
    node.stop().await;
}

#[tokio::test]
async fn who_does_not_go_on_is_closed() {
    let node = node_with(|port| {
        port.settings.state_timeout = std::time::Duration::from_millis(20);
    })
    .await;
    let (mut client, _) = dial(&node, GATEWAY).await;
    assert_eq!(client.stream_error().await, "connection-timeout");
    // Once it is a component it may be silent.
    let mut slow = Client::dial(node.components[0]).await;
    assert!(matches!(slow.next().await, Heard::Header(_)));
    assert_eq!(slow.stream_error().await, "connection-timeout");
    node.stop().await;
}

#[tokio::test]
async fn connections_of_a_port_are_limited() {
    let node = node_with(|port| port.settings.connections_max = 1).await;
    let mut first = connect(&node, GATEWAY).await;
    let mut second = Client::dial(node.components[0]).await;
    assert!(matches!(second.next().await, Heard::End));
    first.send("</stream:stream>").await;
    assert!(matches!(first.next().await, Heard::Close));
    drop(first);
    let gauge = &node.router.metrics.components.connections;
    until(|| gauge.get() == 0).await;
    let _third = connect(&node, GATEWAY).await;
    node.stop().await;
}

#[tokio::test]
async fn components_are_told_when_the_node_goes() {
    let node = node().await;
    let mut gateway = connect(&node, GATEWAY).await;
    let mut romeo = node.client("romeo").await;
    let (mut waiting, _) = dial(&node, "other.localhost").await;
    let stopped = tokio::join!(node.stop(), gateway.stream_error(), async {
        (romeo.stream_error().await, waiting.stream_error().await)
    });
    let (_, of_component, (of_client, of_waiting)) = stopped;
    assert_eq!(of_component, "system-shutdown");
    assert_eq!(of_client, "system-shutdown");
    assert_eq!(of_waiting, "system-shutdown");
}

#[tokio::test]
async fn a_component_may_send_all_at_once() {
    let node = node().await;
    let mut romeo = node.client("romeo").await;
    let (mut client, id) = dial(&node, GATEWAY).await;
    let digest = handshake(&id, SECRET);
    client
        .send(&format!(
            "<handshake>{digest}</handshake>\
             <message from='{GATEWAY}' to='romeo@localhost/test' id='1'/></stream:stream>"
        ))
        .await;
    assert_eq!(client.element().await.name(), "handshake");
    assert!(matches!(client.next().await, Heard::Close));
    assert_eq!(romeo.element().await.attr("id"), Some("1"));
    node.stop().await;
}

/// A balancer may stand in front of them, too.
#[tokio::test]
async fn a_component_may_be_announced() {
    let node = node_with(|port| {
        let loopback = protocol::proxy::Network::LOOPBACK;
        port.settings.proxy_protocol = Some(transport::ProxyProtocol::new(loopback));
    })
    .await;
    let mut client = Client::dial(node.components[0]).await;
    client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").await;
    client.send(&header(GATEWAY)).await;
    assert!(matches!(client.next().await, Heard::Header(_)));
    let mut client = Client::dial(node.components[0]).await;
    client.send(&header(GATEWAY)).await;
    assert!(matches!(client.next().await, Heard::End));
    node.stop().await;
}
