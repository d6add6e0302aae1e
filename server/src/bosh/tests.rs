//! What takes a look from inside. Everything that a client can see is in the whole-system tests.
use std::net::Ipv4Addr;

use super::config::BoshService;
use super::*;
use crate::c2s::newcomers::Newcomers;
use crate::testing::{DOMAIN, TestNode, soon};
use crate::turns::Turns;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A node and its sessions of BOSH, reached without HTTP.
struct Inside {
    node: TestNode,
    bosh: Arc<Bosh>,
}

impl Inside {
    async fn new(config: &BoshService) -> Self {
        let node = TestNode::start().await;
        let admission = Arc::new(Admission {
            newcomers: Newcomers::new(100),
            handshakes: Turns::new(1, 1),
        });
        let settings = Settings::new(config, 64 * 1024);
        let bosh = Bosh::new(settings, node.router.clone(), admission);
        Self { node, bosh }
    }

    async fn ask(&self, body: &str, encrypted: bool) -> String {
        let answer = self.bosh.answer(body.as_bytes(), PEER, encrypted);
        String::from_utf8(soon(answer).await.to_vec()).unwrap()
    }

    async fn create(&self, attributes: &str, encrypted: bool) -> String {
        let body = format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='{DOMAIN}' {attributes}/>"
        );
        self.ask(&body, encrypted).await
    }
}

#[tokio::test]
async fn only_domains_of_the_named_host_types_can_be_reached() {
    let config = BoshService {
        host_types: Some(vec!["another".to_owned()]),
        ..BoshService::default()
    };
    let inside = Inside::new(&config).await;
    let answer = inside.create("", false).await;
    assert!(answer.contains("condition='host-unknown'"), "{answer}");
    assert_eq!(inside.bosh.count(), 0);
    let config = BoshService {
        host_types: Some(vec![DOMAIN.to_owned()]),
        ..BoshService::default()
    };
    let inside = Inside::new(&config).await;
    assert!(inside.create("", false).await.contains(" sid='"));
    assert_eq!(inside.bosh.count(), 1);
}

/// Passwords in clear are for encrypted connections only, and nothing can be bound to what ends before the stream.
#[tokio::test]
async fn what_is_offered_depends_on_the_encryption_below() {
    let inside = Inside::new(&BoshService::default()).await;
    let plain = inside.create("", false).await;
    assert!(plain.contains("<mechanism>SCRAM-"), "{plain}");
    assert!(
        !plain.contains("PLAIN") && !plain.contains("PLUS"),
        "{plain}"
    );
    assert!(!plain.contains("<starttls"), "{plain}");
    let encrypted = inside.create("", true).await;
    assert!(
        encrypted.contains("<mechanism>PLAIN</mechanism>"),
        "{encrypted}"
    );
    assert!(!encrypted.contains("PLUS"), "{encrypted}");
}

/// Security case B05: as many as an address may have; the oldest have to go, and are told.
#[tokio::test]
async fn b05_strangers_share_the_places_of_their_address() {
    let inside = Inside::new(&BoshService::default()).await;
    let max = crate::c2s::newcomers::NEWCOMERS_PER_ADDRESS_MAX;
    let first = inside.create("", false).await;
    let sid = first.split_once(" sid='").unwrap().1;
    let sid = sid.split_once('\'').unwrap().0.to_owned();
    let body = |rid| {
        format!("<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' sid='{sid}'/>")
    };
    // It waits.
    let held = body(2);
    let mut held = std::pin::pin!(inside.ask(&held, false));
    for _ in 0..max {
        let answer = tokio::select! {
            biased;
            told = &mut held => {
                assert!(told.contains("type='terminate'"), "{told}");
                assert!(told.contains("<policy-violation "), "{told}");
                return;
            }
            answer = inside.create("", false) => answer,
        };
        assert!(answer.contains(" sid='"), "{answer}");
    }
    let told = held.await;
    assert!(told.contains("type='terminate'"), "{told}");
    assert!(told.contains("<policy-violation "), "{told}");
    assert!(inside.bosh.admission.newcomers.count() <= max);
}

#[tokio::test]
async fn a_node_that_leaves_takes_nobody() {
    let inside = Inside::new(&BoshService::default()).await;
    inside
        .node
        .router
        .leaving
        .begin(protocol::StreamCondition::SystemShutdown.into());
    let answer = inside.create("", false).await;
    assert!(answer.contains("condition='system-shutdown'"), "{answer}");
    let unknown = "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' sid='x'/>";
    let answer = inside.ask(unknown, false).await;
    assert!(answer.contains("condition='system-shutdown'"), "{answer}");
}

/// Requests that come and go, with the answers that our acknowledgements are in.
#[tokio::test]
async fn server_acks_are_told_throughout_if_wanted() {
    let config = BoshService {
        server_acks: true,
        ..BoshService::default()
    };
    let inside = Inside::new(&config).await;
    let answer = inside.create("ack='1'", false).await;
    assert!(answer.contains(" ack='1'"), "{answer}");
    let answer = Inside::new(&BoshService::default()).await;
    let answer = answer.create("", false).await;
    assert!(!answer.contains(" ack="), "{answer}");
}
