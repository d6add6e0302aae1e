use protocol::Jid;

use super::super::list::Item;
use super::*;

fn list(name: &str, items: u32) -> Arc<List> {
    let address = |order| Jid::parse(&format!("a{order}@b")).unwrap();
    let items = (0..items).map(|order| Item::block(order, address(order)));
    Arc::new(List::new(name, items.collect()).unwrap())
}

const JULIET: &str = "juliet@localhost";

#[test]
fn lists_are_remembered_by_account_and_name_until_they_change() {
    let known = Known::new();
    let (found, read_at) = known.find(JULIET, None);
    assert_eq!(found, None);
    known.remember(JULIET, None, None, read_at);
    known.remember(JULIET, Some("a"), Some(list("a", 1)), read_at);
    let longer = "juliet@localhost.example";
    let (_, longer_read_at) = known.find(longer, None);
    known.remember(longer, None, Some(list("b", 1)), longer_read_at);
    assert_eq!(known.find(JULIET, None).0, Some(None));
    assert_eq!(known.find(JULIET, Some("a")).0, Some(Some(list("a", 1))));
    assert_eq!(known.find(JULIET, Some("b")).0, None);
    known.forget(JULIET);
    assert_eq!(known.find(JULIET, None).0, None);
    assert_eq!(known.find(JULIET, Some("a")).0, None);
    assert_eq!(known.find(longer, None).0, Some(Some(list("b", 1))));
}

#[test]
fn what_was_read_before_a_change_is_not_remembered_after_it() {
    let known = Known::new();
    let (_, read_at) = known.find(JULIET, None);
    known.forget(JULIET);
    known.remember(JULIET, None, None, read_at);
    assert_eq!(known.find(JULIET, None).0, None);
}

/// Security case: strangers write to as many accounts as they like.
#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let known = Known::new();
    let large = list("large", 1_000);
    let mut most = 0;
    for index in 0..3_000 {
        let account = format!("user{index}@localhost");
        let (_, read_at) = known.find(&account, None);
        known.remember(&account, None, Some(large.clone()), read_at);
        let bytes: usize = known.shards.iter().map(|shard| shard.lock().bytes).sum();
        most = most.max(bytes);
    }
    assert!(most <= CACHE_BYTES_MAX, "{most}");
    let (lists, _) = known.len();
    assert!((100..3_000).contains(&lists), "{lists}");
    for index in 0..3_000 {
        known.forget(&format!("user{index}@localhost"));
    }
    let bytes: usize = known.shards.iter().map(|shard| shard.lock().bytes).sum();
    assert_eq!((known.len(), bytes), ((0, 0), 0));
}
