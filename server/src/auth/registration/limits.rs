//! How fast accounts may be made by strangers (security case N15).
//!
//! Loopback is no exception: behind a balancer that does not say who comes, all of them together have one limit.
use std::net::IpAddr;
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::throttle::{WINDOW, client_network};

/// Names that one IPv4 address or IPv6 /64 may ask for within [`WINDOW`], whether it gets them or not.
pub const NAMES_PER_ADDRESS_MAX: u32 = 10;
/// Names that all may ask for within [`WINDOW`].
pub const NAMES_MAX: u32 = 1_000;
/// Accounts that all may get within [`WINDOW`].
pub const ACCOUNTS_MAX: u32 = 100;
/// Addresses that are remembered; beyond that nobody new may ask.
pub const ADDRESSES_MAX: usize = 50_000;

/// The registrations of a node.
#[derive(Debug)]
pub struct Registrations {
    /// How long an address waits between two accounts; `None`: not at all.
    pause: Option<Duration>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    names: Window,
    accounts: Window,
    addresses: HashMap<IpAddr, Address, RandomState>,
}

#[derive(Debug, Default)]
struct Address {
    names: Window,
    /// When it got its last account, or asked for the one that it may get now.
    account_at: Option<Instant>,
}

/// A count that begins anew with each window.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    count: u32,
}

/// Somebody may have an account, unless it comes to nothing: then the place is free again.
#[derive(Debug)]
pub struct Place<'a> {
    registrations: &'a Registrations,
    address: IpAddr,
    /// What stood there before.
    before: Option<Instant>,
    is_kept: bool,
}

impl Registrations {
    /// None yet; each address waits for `pause` between two accounts.
    pub fn new(pause: Option<Duration>) -> Self {
        Self {
            pause,
            book: Mutex::default(),
        }
    }

    /// A place for one account; `None` if there have been too many, or too many were asked for.
    pub fn place(&self, peer: IpAddr) -> Option<Place<'_>> {
        let (address, now) = (client_network(peer), Instant::now());
        let mut book = self.book.lock();
        if book.names.count(now) >= NAMES_MAX || book.accounts.count(now) >= ACCOUNTS_MAX {
            return None;
        }
        let kept_for = self.pause.unwrap_or_default().max(WINDOW);
        if book.addresses.len() >= ADDRESSES_MAX {
            book.addresses.retain(|_, of| !of.is_stale(now, kept_for));
        }
        if book.addresses.len() >= ADDRESSES_MAX && !book.addresses.contains_key(&address) {
            return None;
        }
        let of = book.addresses.entry(address).or_default();
        let waits = |at: Instant| self.pause.is_some_and(|pause| now < at + pause);
        if of.names.count(now) >= NAMES_PER_ADDRESS_MAX || of.account_at.is_some_and(waits) {
            return None;
        }
        of.names.add(now);
        let before = of.account_at.replace(now);
        book.names.add(now);
        book.accounts.add(now);
        Some(Place {
            registrations: self,
            address,
            before,
            is_kept: false,
        })
    }
}

impl Place<'_> {
    /// The account is made.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut book = self.registrations.book.lock();
        book.accounts.count = book.accounts.count.saturating_sub(1);
        if let Some(of) = book.addresses.get_mut(&self.address) {
            of.account_at = self.before;
        }
    }
}

impl Address {
    fn is_stale(&self, now: Instant, kept_for: Duration) -> bool {
        let is_old = |at: Option<Instant>| at.is_none_or(|at| now >= at + kept_for);
        is_old(self.names.since) && is_old(self.account_at)
    }
}

impl Window {
    fn count(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now >= since + WINDOW) {
            *self = Self {
                since: Some(now),
                count: 0,
            };
        }
        self.count
    }

    fn add(&mut self, now: Instant) {
        self.count = self.count(now).saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xc000_0200 + number).into()
    }

    const PAUSE: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_for_its_next_account_and_not_for_a_failure() {
        let registrations = Registrations::new(Some(PAUSE));
        drop(registrations.place(peer(1)).unwrap());
        let place = registrations.place(peer(1)).unwrap();
        assert!(registrations.place(peer(1)).is_none(), "one at a time");
        place.keep();
        assert!(registrations.place(peer(1)).is_none());
        assert!(registrations.place(peer(2)).is_some());
        advance(PAUSE - Duration::from_secs(1)).await;
        assert!(registrations.place(peer(1)).is_none());
        advance(Duration::from_secs(1)).await;
        assert!(registrations.place(peer(1)).is_some());
    }

    /// Names that are taken are found out no faster.
    #[tokio::test(start_paused = true)]
    async fn n15_names_are_asked_for_no_faster_than_the_limit() {
        for pause in [None, Some(PAUSE)] {
            let registrations = Registrations::new(pause);
            for _ in 0..NAMES_PER_ADDRESS_MAX {
                drop(registrations.place(peer(1)).unwrap());
            }
            assert!(registrations.place(peer(1)).is_none());
            advance(WINDOW).await;
            assert!(registrations.place(peer(1)).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn n15_all_together_have_a_limit() {
        let registrations = Registrations::new(None);
        for number in 0..ACCOUNTS_MAX {
            registrations.place(peer(number)).unwrap().keep();
        }
        assert!(registrations.place(peer(9_999)).is_none());
        advance(WINDOW).await;
        assert!(registrations.place(peer(9_999)).is_some());

        let registrations = Registrations::new(None);
        for number in 0..NAMES_MAX {
            drop(registrations.place(peer(number)).unwrap());
        }
        assert!(registrations.place(peer(9_999)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_forgotten() {
        let registrations = Registrations::new(Some(PAUSE));
        let now = Instant::now();
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            let address = Address {
                account_at: Some(now),
                ..Address::default()
            };
            let mut book = registrations.book.lock();
            book.addresses.insert(peer(number), address);
        }
        let stranger = "203.0.113.9".parse().unwrap();
        assert!(registrations.place(stranger).is_none());
        advance(PAUSE).await;
        assert!(registrations.place(stranger).is_some());
        assert_eq!(registrations.book.lock().addresses.len(), 1);
    }
}
