//! Connections that have no session yet: how many an address and the node may have. The oldest has to go.
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{StreamCondition, StreamError};
use tokio_util::sync::CancellationToken;

use crate::auth::throttle::client_network;
use crate::outlet::{Order, SessionRef};

/// Connections without a session of one IPv4 address or one IPv6 /64. Loopback is exempt: balancers connect from there.
pub const NEWCOMERS_PER_ADDRESS_MAX: usize = 20;
/// Connections of the node without a session, at 64 KiB each at worst.
pub const NEWCOMERS_MAX: usize = 10_000;

/// The connections that have no session yet.
pub struct Newcomers {
    max: usize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    next: u64,
    by_age: BTreeMap<u64, Entry>,
    /// Oldest first.
    by_network: HashMap<IpAddr, VecDeque<u64>, RandomState>,
}

struct Entry {
    /// `None` for loopback.
    network: Option<IpAddr>,
    whom: Whom,
}

/// Who is told to go.
pub enum Whom {
    /// A client's stream.
    Stream(SessionRef),
    /// An HTTP connection that has not sent a whole request.
    Http(CancellationToken),
}

impl Whom {
    fn tell(self) {
        match self {
            Self::Stream(outlet) => outlet.order(Order::Close(
                StreamError::new(StreamCondition::PolicyViolation)
                    .with_text("too many connections have no session"),
                "newcomers",
            )),
            Self::Http(told_to_go) => told_to_go.cancel(),
        }
    }
}

/// A connection's place among them, until it has a session or has ended.
pub struct Newcomer {
    newcomers: Arc<Newcomers>,
    number: u64,
}

impl Newcomers {
    /// At most `max` at a time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.clamp(1, NEWCOMERS_MAX),
            book: Mutex::default(),
        })
    }

    /// Gives a new connection its place. If its address or the node has too many, the oldest of them is told to go.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, whom: Whom) -> Newcomer {
        let is_known = !peer.to_canonical().is_loopback();
        let network = is_known.then(|| client_network(peer));
        let mut book = self.book.lock();
        let mut gone = None;
        if let Some(network) = network {
            let of_network = book.by_network.get(&network);
            if let Some(of_network) = of_network
                && of_network.len() >= NEWCOMERS_PER_ADDRESS_MAX
            {
                gone = of_network.front().copied();
            }
        }
        if gone.is_none() && book.by_age.len() >= self.max {
            gone = book.by_age.first_key_value().map(|(number, _)| *number);
        }
        let gone = gone.and_then(|number| book.remove(number));
        let number = book.add(Entry { network, whom });
        drop(book);
        if let Some(gone) = gone {
            gone.whom.tell();
        }
        Newcomer {
            newcomers: self.clone(),
            number,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.book.lock().by_age.len()
    }
}

impl Book {
    fn add(&mut self, entry: Entry) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(network) = entry.network {
            self.by_network
                .entry(network)
                .or_default()
                .push_back(number);
        }
        self.by_age.insert(number, entry);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_age.remove(&number)?;
        if let Some(network) = entry.network
            && let Some(of_network) = self.by_network.get_mut(&network)
        {
            of_network.retain(|other| *other != number);
            if of_network.is_empty() {
                self.by_network.remove(&network);
            }
        }
        Some(entry)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        // The entry is dropped after the lock.
        let _left = self.newcomers.book.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::ledger::Ledger;
    use crate::outlet::Event;
    use crate::testing::{metrics, outlet};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn is_told_to_go(outlet: &SessionRef) {
        let order = poll_fn(|cx| outlet.poll_unread(cx)).await;
        assert!(matches!(order, Event::Order(Order::Close(_, "newcomers"))));
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_gives_way() {
        let ledger = Ledger::new(metrics().ledger.clone());
        let newcomers = Newcomers::new(NEWCOMERS_MAX);
        let (first, _client) = outlet(&ledger, 1).await;
        let (second, _client) = outlet(&ledger, 2).await;
        let other = newcomers.enter(OTHER, Whom::Stream(first.clone()));
        let mut places = vec![newcomers.enter(PEER, Whom::Stream(first.clone()))];
        for _ in 1..NEWCOMERS_PER_ADDRESS_MAX {
            places.push(newcomers.enter(PEER, Whom::Stream(second.clone())));
        }
        assert_eq!(newcomers.count(), NEWCOMERS_PER_ADDRESS_MAX + 1);
        places.push(newcomers.enter(PEER, Whom::Stream(second.clone())));
        assert_eq!(newcomers.count(), NEWCOMERS_PER_ADDRESS_MAX + 1);
        is_told_to_go(&first).await;
        drop((places, other));
        assert_eq!(newcomers.count(), 0);
        assert!(newcomers.book.lock().by_network.is_empty());
    }

    #[tokio::test]
    async fn loopback_has_the_limit_of_the_node_only() {
        let ledger = Ledger::new(metrics().ledger.clone());
        let max = NEWCOMERS_PER_ADDRESS_MAX * 2;
        let newcomers = Newcomers::new(max);
        let (first, _client) = outlet(&ledger, 1).await;
        let (second, _client) = outlet(&ledger, 2).await;
        let mut places = vec![newcomers.enter(LOOPBACK, Whom::Stream(first.clone()))];
        places.extend((1..max).map(|_| newcomers.enter(LOOPBACK, Whom::Stream(second.clone()))));
        assert_eq!(newcomers.count(), max);
        places.push(newcomers.enter(PEER, Whom::Stream(second.clone())));
        assert_eq!(newcomers.count(), max);
        is_told_to_go(&first).await;
    }
}
