//! Bytes, tokens and wake-ups at one outlet, without a session task around it.
use std::future::poll_fn;
use std::task::Wake;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::c2s::resume::Settings;
use crate::receipts::Receipts;
use crate::testing::{SETTINGS, message, metrics, outlet, soon};

fn ledger() -> Arc<Ledger> {
    Ledger::new(metrics().ledger.clone())
}

async fn bound(ledger: &Arc<Ledger>, id: u64) -> (SessionRef, TcpStream) {
    let (outlet, client) = outlet(ledger, id).await;
    outlet.bind(FullJid::parse("romeo@localhost/orchard").unwrap());
    (outlet, client)
}

fn token(stanza: u32) -> Option<Token> {
    Some(Token {
        session: 77,
        stanza,
    })
}

fn push(outlet: &SessionRef, stanza: Stanza, token: Option<Token>, batch: &mut Batch) -> bool {
    matches!(outlet.push(stanza, token, batch), Pushed::Taken)
}

async fn read(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    soon(client.read_exact(&mut buffer)).await.unwrap();
    buffer
}

/// Pushes until the socket refuses something. Returns all bytes that were pushed.
fn fill(outlet: &SessionRef, settled: &mut Vec<Token>) -> Vec<u8> {
    let mut pushed = Vec::new();
    let mut batch = Batch::new(&outlet.ledger);
    while !outlet.state.lock().blocked {
        let stanza = message("romeo@localhost/orchard", "fill", 8_000);
        pushed.extend_from_slice(stanza.bytes());
        assert!(push(outlet, stanza, None, &mut batch));
        outlet.flush(settled);
    }
    pushed
}

/// What the session's task does while bytes wait.
async fn go_on(outlet: &SessionRef, settled: &mut Vec<Token>) {
    while !outlet.is_drained() {
        match poll_fn(|cx| outlet.poll_unread(cx)).await {
            Event::Writable => outlet.flush_blocked(settled).unwrap(),
            _ => panic!("only a writable socket is waited for"),
        }
    }
}

#[tokio::test]
async fn what_a_batch_appends_leaves_at_its_end_in_order() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut batch = Batch::new(&ledger);
    let mut expected = Vec::new();
    for number in 0..20 {
        let stanza = message("romeo@localhost/orchard", &number.to_string(), 100);
        expected.extend_from_slice(stanza.bytes());
        assert!(push(&outlet, stanza, None, &mut batch));
    }
    assert_eq!(outlet.state.lock().out.len(), expected.len());
    batch.flush();
    assert!(outlet.is_drained());
    assert_eq!(read(&mut client, expected.len()).await, expected);
}

#[tokio::test]
async fn a_large_batch_is_flushed_amid() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut batch = Batch::new(&ledger);
    let stanza = message("romeo@localhost/orchard", "1", FLUSH_BYTES);
    let bytes = stanza.bytes().to_vec();
    assert!(push(&outlet, stanza, None, &mut batch));
    assert_eq!(read(&mut client, bytes.len()).await, bytes);
}

#[tokio::test]
async fn what_a_full_socket_refuses_goes_on_in_order_when_it_is_read() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut settled = Vec::new();
    let mut expected = fill(&outlet, &mut settled);
    let last = message("romeo@localhost/orchard", "last", 10);
    expected.extend_from_slice(last.bytes());
    let mut batch = Batch::new(&ledger);
    assert!(push(&outlet, last, None, &mut batch));
    batch.flush();
    let length = expected.len();
    let reader = read(&mut client, length);
    let (read, ()) = tokio::join!(reader, soon(go_on(&outlet, &mut settled)));
    assert!(read == expected, "all bytes, in order");
}

#[tokio::test]
async fn a_token_is_settled_when_the_last_byte_is_written_and_not_before() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let (mut settled, mut batch) = (Vec::new(), Batch::new(&ledger));
    let stanza = message("romeo@localhost/orchard", "1", 10);
    assert!(push(&outlet, stanza, token(1), &mut batch));
    outlet.flush(&mut settled);
    assert_eq!(settled, token(1).into_iter().collect::<Vec<_>>());

    settled.clear();
    // Pushed before the socket refuses anything, and refused in part.
    let mut expected = 10_usize.pow(6);
    let large = message("romeo@localhost/orchard", "2", expected);
    expected = large.bytes().len();
    assert!(push(&outlet, large, token(2), &mut batch));
    outlet.flush(&mut settled);
    assert!(outlet.state.lock().blocked);
    assert!(settled.is_empty());
    let first = message("romeo@localhost/orchard", "1", 10);
    let reader = read(&mut client, first.bytes().len() + expected);
    tokio::join!(reader, soon(go_on(&outlet, &mut settled)));
    assert_eq!(settled, token(2).into_iter().collect::<Vec<_>>());
    assert!(outlet.take_kept().is_empty());
}

#[tokio::test]
async fn what_waits_for_a_full_socket_is_looked_at_by_the_sweep() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let mut batch = Batch::new(&ledger);
    let large = message("romeo@localhost/orchard", "1", 10_usize.pow(6));
    assert!(push(&outlet, large, token(1), &mut batch));
    batch.flush();
    assert!(outlet.state.lock().blocked);
    assert!(
        outlet.state.lock().enrolled,
        "its sender waits, so it may need a row"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_its_messages_are_given_back() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let mut settled = Vec::new();
    fill(&outlet, &mut settled);
    let mut batch = Batch::new(&ledger);
    let mut taken = 0;
    loop {
        let stanza = message("romeo@localhost/orchard", &taken.to_string(), 8_000);
        match outlet.push(stanza, token(taken), &mut batch) {
            Pushed::Taken => taken += 1,
            Pushed::Closed(_, back) => break assert_eq!(back, token(taken)),
        }
        assert!(taken < 100, "the limit is passed");
    }
    let order = poll_fn(|cx| outlet.poll_event(cx)).await;
    let Event::Order(Order::Close(error, "slow_reader")) = order else {
        panic!("closed")
    };
    assert_eq!(error.condition, StreamCondition::ResourceConstraint);
    let kept = outlet.take_kept();
    let tokens: Vec<_> = kept.iter().map(|kept| kept.token).collect();
    assert_eq!(tokens, (0..taken).map(token).collect::<Vec<_>>());
    assert!(settled.is_empty());
}

#[tokio::test]
async fn what_is_kept_for_a_full_socket_is_held_once_and_goes_on_in_order() {
    for is_managed in [false, true] {
        let ledger = ledger();
        let (outlet, mut client) = bound(&ledger, 1).await;
        let (mut settled, mut batch) = (Vec::new(), Batch::new(&ledger));
        if is_managed {
            let settings = Settings {
                ack: false,
                ..SETTINGS
            };
            let managed = Box::new(Managed::new(settings, None));
            assert!(outlet.manage(managed, b"", &mut batch));
        }
        let mut expected = fill(&outlet, &mut settled);
        let mut push_message = |id: &str| {
            let stanza = message("romeo@localhost/orchard", id, 10);
            expected.extend_from_slice(stanza.bytes());
            let waiting = outlet.state.lock().waiting_bytes() + stanza.bytes().len();
            assert!(push(&outlet, stanza, None, &mut batch));
            assert_eq!(outlet.state.lock().waiting_bytes(), waiting);
        };
        push_message("1");
        push_message("2");
        assert!(outlet.state.lock().out.is_empty(), "they are kept");
        push_message("3");
        outlet.push_bytes(b"<nonza/>", &mut Batch::new(&ledger));
        expected.extend_from_slice(b"<nonza/>");
        let stanza = message("romeo@localhost/orchard", "4", 10);
        expected.extend_from_slice(stanza.bytes());
        assert!(push(&outlet, stanza, None, &mut Batch::new(&ledger)));
        let length = expected.len();
        let reader = read(&mut client, length);
        let (read, ()) = tokio::join!(reader, soon(go_on(&outlet, &mut settled)));
        assert!(read == expected, "all bytes, in order");
        assert_eq!(outlet.state.lock().waiting_bytes(), 0);
    }
}

#[tokio::test]
async fn a_session_that_ends_amid_a_write_takes_its_stanzas_along() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let (mut settled, mut batch) = (Vec::new(), Batch::new(&ledger));
    let stanza = message("romeo@localhost/orchard", "1", 10);
    assert!(push(&outlet, stanza, token(1), &mut batch));
    // Another worker has taken the bytes and writes them at this moment.
    let bytes = std::mem::take(&mut outlet.state.lock().out);
    outlet.state.lock().writing = true;
    assert_eq!(outlet.take_kept().len(), 1);
    outlet.after_write(
        &mut outlet.state.lock(),
        &bytes,
        Ok(bytes.len()),
        1,
        &mut settled,
    );
    assert!(settled.is_empty(), "whoever took it settles it");
}

#[tokio::test]
async fn an_answer_of_tls_stands_behind_the_record_that_is_being_written() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut settled = Vec::new();
    outlet.state.lock().writing = true;
    outlet.write_records(&mut outlet.state.lock(), b" answer");
    assert!(
        !outlet.state.lock().blocked,
        "the session's task must not write beside the other"
    );
    outlet.after_write(&mut outlet.state.lock(), b"record", Ok(2), 0, &mut settled);
    assert!(outlet.state.lock().blocked);
    soon(go_on(&outlet, &mut settled)).await;
    assert_eq!(read(&mut client, 11).await, b"cord answer");

    outlet.state.lock().writing = true;
    outlet.write_records(&mut outlet.state.lock(), b" answer");
    outlet.after_write(&mut outlet.state.lock(), b"record", Ok(6), 0, &mut settled);
    soon(go_on(&outlet, &mut settled)).await;
    assert_eq!(read(&mut client, 7).await, b" answer");
}

#[tokio::test]
async fn a_connection_that_cannot_be_written_to_is_lost() {
    let ledger = ledger();
    let (outlet, client) = bound(&ledger, 1).await;
    socket2::SockRef::from(&client)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(client);
    poll_fn(|cx| outlet.socket().poll_readable(cx))
        .await
        .unwrap();
    let mut batch = Batch::new(&ledger);
    // The first write learns of the reset.
    for number in 0..2 {
        let stanza = message("romeo@localhost/orchard", "1", 10);
        assert!(push(&outlet, stanza, token(number), &mut batch));
        batch.flush();
    }
    assert!(matches!(
        poll_fn(|cx| outlet.poll_event(cx)).await,
        Event::Lost
    ));
    assert!(matches!(
        poll_fn(|cx| outlet.poll_unread(cx)).await,
        Event::Lost
    ));
    assert_eq!(outlet.take_kept().len(), 2, "nothing was settled");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn the_session_is_woken_when_others_block_its_socket() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    // Clears what tokio supposes of a new socket.
    assert!(outlet.socket().try_read(&mut [0; 16]).is_err());
    assert!(
        outlet
            .poll_event(&mut Context::from_waker(&waker))
            .is_pending()
    );
    fill(&outlet, &mut Vec::new());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    outlet.order(Order::Lost);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn enabled_and_the_count_of_what_follows_begin_together() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut batch = Batch::new(&ledger);
    let before = message("romeo@localhost/orchard", "before", 10);
    let after = message("romeo@localhost/orchard", "after", 10);
    let expected = [
        before.bytes(),
        b"<enabled/>",
        after.bytes(),
        b"<r xmlns='urn:xmpp:sm:3'/>",
    ];
    let expected = expected.concat();
    assert!(push(&outlet, before, token(1), &mut batch));
    let managed = || Box::new(Managed::new(SETTINGS, None));
    assert!(outlet.manage(managed(), b"<enabled/>", &mut batch));
    assert!(!outlet.manage(managed(), b"<enabled/>", &mut batch));
    assert!(push(&outlet, after, token(2), &mut batch));
    let mut settled = Vec::new();
    outlet.flush(&mut settled);
    assert_eq!(read(&mut client, expected.len()).await, expected);
    assert_eq!(settled, token(1).into_iter().collect::<Vec<_>>());
    assert_eq!(outlet.with_managed(|managed| managed.outbox_len()), Some(1));
}

#[tokio::test]
async fn a_session_that_moves_takes_everything_along() {
    let ledger = ledger();
    let (old, _old_client) = bound(&ledger, 1).await;
    let (new, mut client) = bound(&ledger, 2).await;
    let mut batch = Batch::new(&ledger);
    old.manage(
        Box::new(Managed::new(SETTINGS, Some("id".into()))),
        b"",
        &mut batch,
    );
    let numbers: Vec<_> = (0..3)
        .filter_map(|_| old.with_managed(Managed::receive).flatten())
        .collect();
    old.detach();
    let first = message("romeo@localhost/orchard", "first", 10);
    let second = message("romeo@localhost/orchard", "second", 10);
    let expected = [b"<resumed/>", first.bytes(), second.bytes()].concat();
    assert!(push(&old, first, token(1), &mut batch));
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    old.notify_end(ended);
    old.order(Order::Lost);

    new.begin_install();
    let handed = old.hand_over(&new);
    // What reaches the old outlet from now on finds the new one, at whatever moment.
    settle(&ledger, &old, numbers[0]);
    assert!(push(&old, second, token(2), &mut batch));
    ledger.add(handed.id(), new.clone());
    settle(&ledger, &old, numbers[1]);
    new.install(handed, b"<resumed/>", &mut batch);
    settle(&ledger, &old, numbers[2]);
    batch.flush();

    assert_eq!(new.id(), 1);
    assert_eq!(new.with_managed(|managed| managed.tellable()), Some(3));
    assert_eq!(read(&mut client, expected.len()).await, expected);
    assert!(matches!(
        poll_fn(|cx| new.poll_event(cx)).await,
        Event::Order(Order::Lost)
    ));
    old.order(Order::Lost);
    assert!(matches!(
        poll_fn(|cx| new.poll_event(cx)).await,
        Event::Order(Order::Lost)
    ));
    new.ended();
    assert!(
        has_ended.await.is_err(),
        "told at the end of the session, not of the connection"
    );
}

/// Settles a stanza as the ledger does.
fn settle(ledger: &Arc<Ledger>, outlet: &SessionRef, stanza: u32) {
    let id = 1;
    // Before the ledger knows of the new outlet it finds the old one.
    ledger.add(id, outlet.clone());
    ledger.settle_all(&mut vec![Token {
        session: id,
        stanza,
    }]);
}

#[tokio::test]
async fn a_row_in_the_making_is_made_anew_after_a_move() {
    let ledger = ledger();
    let (old, _old_client) = bound(&ledger, 1).await;
    let (new, _client) = bound(&ledger, 2).await;
    let mut batch = Batch::new(&ledger);
    old.manage(
        Box::new(Managed::new(SETTINGS, Some("id".into()))),
        b"",
        &mut batch,
    );
    let stanza = message("romeo@localhost/orchard", "1", 10);
    assert!(push(&old, stanza, token(1), &mut batch));
    old.with_kept(|managed, _| managed.unwrap().kept_mut().for_each(|kept| kept.serial = 9));
    new.begin_install();
    let handed = old.hand_over(&new);
    new.install(handed, b"", &mut batch);
    assert!(new.state.lock().enrolled);
    new.with_kept(|managed, _| {
        assert!(managed.unwrap().kept_mut().all(|kept| kept.serial == 0));
    });
}

#[tokio::test]
async fn what_a_resumption_sends_again_is_no_slow_reader() {
    let ledger = ledger();
    let (old, _old_client) = bound(&ledger, 1).await;
    let (new, mut client) = bound(&ledger, 2).await;
    let mut batch = Batch::new(&ledger);
    old.manage(
        Box::new(Managed::new(SETTINGS, Some("id".into()))),
        b"",
        &mut batch,
    );
    old.detach();
    let mut expected = Vec::new();
    for _ in 0..60 {
        let stanza = message("romeo@localhost/orchard", "1", 15_000);
        expected.extend_from_slice(stanza.bytes());
        assert!(push(&old, stanza, None, &mut batch));
    }
    new.begin_install();
    let handed = old.hand_over(&new);
    new.install(handed, b"", &mut batch);
    batch.flush();
    assert!(new.state.lock().blocked);
    let stanza = message("romeo@localhost/orchard", "2", 10);
    expected.extend_from_slice(stanza.bytes());
    assert!(push(&new, stanza, None, &mut batch));
    assert!(!new.has(Flag::Closed));
    let mut settled = Vec::new();
    let reader = read(&mut client, expected.len());
    let (read, ()) = tokio::join!(reader, soon(go_on(&new, &mut settled)));
    assert!(
        read.starts_with(&expected[..900_000]),
        "all bytes, in order"
    );
    assert_eq!(new.state.lock().rare().bytes_more, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_session_that_has_ended() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    outlet.ended();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    outlet.notify_end(ended);
    assert!(has_ended.await.is_err());
    let (taker, session) = tokio::sync::oneshot::channel();
    outlet.order(Order::HandOver(taker));
    assert!(session.await.is_err());
}

#[tokio::test]
async fn a_detached_session_writes_nothing_and_keeps_everything() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let mut batch = Batch::new(&ledger);
    outlet.manage(
        Box::new(Managed::new(SETTINGS, Some("id".into()))),
        b"",
        &mut batch,
    );
    client.write_all(b" ").await.unwrap();
    outlet.detach();
    let stanza = message("romeo@localhost/orchard", "1", 10);
    assert!(push(&outlet, stanza, token(1), &mut batch));
    batch.flush();
    assert!(outlet.state.lock().out.is_empty());
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
    assert!(
        outlet
            .poll_event(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert_eq!(outlet.take_kept().len(), 1);
}

/// There is one of each for every session: what it grows by, a node pays a million times.
#[test]
fn sizes() {
    println!(
        "Outlet {} State {} Rare {}",
        size_of::<Outlet>(),
        size_of::<State>(),
        size_of::<Rare>()
    );
    println!(
        "Managed {} Kept {}",
        size_of::<Managed>(),
        size_of::<Kept>()
    );
    assert!(size_of::<Outlet>() <= 320);
    assert!(size_of::<Kept>() <= 152);
    assert!(size_of::<Managed>() <= 192);
}

// ---- receipts

fn push_with_receipt(
    outlet: &SessionRef,
    receipts: &Arc<Receipts>,
    id: i64,
    batch: &mut Batch,
) -> bool {
    let stanza = message("romeo@localhost/orchard", &id.to_string(), 10);
    outlet.push_with_receipt(stanza, receipts.receipt(id), batch)
}

#[tokio::test]
async fn a_receipt_is_taken_when_the_bytes_are_written_and_not_before() {
    let ledger = ledger();
    let (outlet, mut client) = bound(&ledger, 1).await;
    let (receipts, mut batch) = (Receipts::new(), Batch::new(&ledger));
    assert!(push_with_receipt(&outlet, &receipts, 7, &mut batch));
    assert_eq!(receipts.progress().outstanding, 1);
    batch.flush();
    assert_eq!(receipts.progress().taken, [7]);
    // Behind a full socket it waits for its turn.
    let mut settled = Vec::new();
    let filled = fill(&outlet, &mut settled);
    assert!(push_with_receipt(&outlet, &receipts, 8, &mut batch));
    batch.flush();
    assert_eq!(receipts.progress().outstanding, 1);
    let (_, ()) = tokio::join!(
        read(&mut client, filled.len()),
        soon(go_on(&outlet, &mut settled))
    );
    assert_eq!(receipts.progress().taken, [8]);
}

#[tokio::test]
async fn a_receipt_comes_back_when_the_session_ends_before() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let (receipts, mut batch, mut settled) = (Receipts::new(), Batch::new(&ledger), Vec::new());
    fill(&outlet, &mut settled);
    assert!(push_with_receipt(&outlet, &receipts, 1, &mut batch));
    drop(outlet.take_kept());
    assert_eq!(receipts.progress().returned, 1);
    assert!(!push_with_receipt(&outlet, &receipts, 2, &mut batch));
    let progress = receipts.progress();
    assert_eq!((progress.returned, progress.outstanding), (1, 0));
}

#[tokio::test]
async fn a_receipt_follows_a_session_that_moves_until_it_is_acknowledged() {
    let ledger = ledger();
    let (old, _lost) = bound(&ledger, 1).await;
    let (new, _client) = bound(&ledger, 2).await;
    let (receipts, mut batch) = (Receipts::new(), Batch::new(&ledger));
    assert!(old.manage(Box::new(Managed::new(SETTINGS, None)), b"", &mut batch));
    assert!(push_with_receipt(&old, &receipts, 1, &mut batch));
    old.detach();
    new.begin_install();
    let handed = old.hand_over(&new);
    assert!(push_with_receipt(&old, &receipts, 2, &mut batch));
    new.install(handed, b"<resumed/>", &mut batch);
    assert!(push_with_receipt(&old, &receipts, 3, &mut batch));
    batch.flush();
    assert_eq!(receipts.progress().outstanding, 3);
    let mut done = Vec::new();
    let acknowledged = new.with_managed(|managed| managed.acknowledge(2, |kept| done.push(kept)));
    assert!(acknowledged.unwrap().is_ok());
    done.into_iter()
        .filter_map(|kept| kept.row)
        .for_each(|row| ledger.row_done(row));
    assert_eq!(receipts.progress().taken, [1, 2]);
    drop(new.take_kept());
    assert_eq!(receipts.progress().returned, 1);
}

#[tokio::test]
async fn a_session_that_moves_is_seen_as_it_was_all_the_time() {
    let ledger = ledger();
    let (old, _lost) = bound(&ledger, 1).await;
    let (new, _client) = bound(&ledger, 2).await;
    let mut batch = Batch::new(&ledger);
    assert!(old.manage(Box::new(Managed::new(SETTINGS, None)), b"", &mut batch));
    let presence = Arc::new(message("romeo@localhost", "1", 1));
    old.set_presence(Some((presence.clone(), 3)));
    old.set(Flag::Interested);
    new.begin_install();
    let handed = old.hand_over(&new);
    let is_seen = |outlet: &SessionRef| {
        outlet
            .presence()
            .is_some_and(|seen| Arc::ptr_eq(&seen, &presence))
            && outlet.priority() == Some(3)
            && outlet.has(Flag::Interested)
    };
    assert!(is_seen(&new) && is_seen(&old));
    new.install(handed, b"<resumed/>", &mut batch);
    new.set_presence(None);
    assert!(
        old.presence().is_none(),
        "who still has the old one sees what holds"
    );
}

#[tokio::test]
async fn one_large_stanza_does_not_end_a_slow_session() {
    let ledger = ledger();
    let (outlet, _client) = bound(&ledger, 1).await;
    let (mut batch, mut settled) = (Batch::new(&ledger), Vec::new());
    fill(&outlet, &mut settled);
    let large = || message("romeo@localhost/orchard", "1", 500_000);
    assert!(push(&outlet, large(), None, &mut batch));
    assert!(!outlet.has(Flag::Closed));
    assert!(push(&outlet, large(), None, &mut batch));
    assert!(outlet.has(Flag::Closed), "but not two of them");
}
