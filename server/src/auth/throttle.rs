//! Limits on guessing: delays per account, refusals per address and network (security case A11). No hard lock, since
//! that would lock people out.
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// First delay after a failure; it doubles with each further one.
pub const DELAY_MIN: Duration = Duration::from_millis(500);
/// Longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Failures of one IPv4 address or IPv6 /64 within [`WINDOW`]; then it is refused until the window is over.
pub const ADDRESS_FAILURES_MAX: u32 = 10;
/// The same for an IPv4 /24 or IPv6 /48.
pub const NETWORK_FAILURES_MAX: u32 = 100;
/// The window of the addresses' limits, and how long a failure of an account is remembered.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Accounts, addresses and networks remembered at a time, each; the stale ones are forgotten first, then all.
pub const REMEMBERED_MAX: usize = 50_000;

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Go,
    /// Go on after a while.
    Wait(Duration),
    /// Too many failures from there.
    Refuse,
}

/// Remembers failures.
#[derive(Default)]
pub struct Throttle {
    hasher: RandomState,
    /// By a hash, as a name may be long.
    accounts: Book<u64>,
    addresses: Book<IpAddr>,
    networks: Book<IpAddr>,
}

impl Throttle {
    /// Whether an attempt may go on.
    pub fn admit(&self, account: &str, peer: IpAddr) -> Verdict {
        let now = Instant::now();
        // Behind a balancer on this machine everybody comes from loopback.
        let is_known = !peer.to_canonical().is_loopback();
        let (address, network) = (client_network(peer), wide_network(peer));
        if is_known
            && (self.addresses.in_window(&address, now) >= ADDRESS_FAILURES_MAX
                || self.networks.in_window(&network, now) >= NETWORK_FAILURES_MAX)
        {
            return Verdict::Refuse;
        }
        match self.accounts.in_row(&self.hasher.hash_one(account), now) {
            0 => Verdict::Go,
            failures => Verdict::Wait(delay_after(failures)),
        }
    }

    /// Notes a wrong password.
    pub fn failed(&self, account: &str, peer: IpAddr) {
        let now = Instant::now();
        self.accounts.note(self.hasher.hash_one(account), now);
        self.addresses.note(client_network(peer), now);
        self.networks.note(wide_network(peer), now);
    }

    /// Forgets an account's failures.
    pub fn succeeded(&self, account: &str) {
        let mut accounts = self.accounts.0.lock();
        if !accounts.is_empty() {
            accounts.remove(&self.hasher.hash_one(account));
        }
    }
}

struct Book<K>(Mutex<HashMap<K, Failures, RandomState>>);

#[derive(Clone, Copy)]
struct Failures {
    /// Each within [`WINDOW`] of the one before.
    in_row: u32,
    last: Instant,
    /// Since `since`, which begins a new window when it is too long ago.
    in_window: u32,
    since: Instant,
}

impl<K> Default for Book<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Book<K> {
    fn in_row(&self, key: &K, now: Instant) -> u32 {
        let book = self.0.lock();
        let failures = book
            .get(key)
            .filter(|of| now.duration_since(of.last) < WINDOW);
        failures.map_or(0, |of| of.in_row)
    }

    fn in_window(&self, key: &K, now: Instant) -> u32 {
        let book = self.0.lock();
        let failures = book
            .get(key)
            .filter(|of| now.duration_since(of.since) < WINDOW);
        failures.map_or(0, |of| of.in_window)
    }

    fn note(&self, key: K, now: Instant) {
        let mut book = self.0.lock();
        if book.len() >= REMEMBERED_MAX {
            book.retain(|_, of| now.duration_since(of.last) < WINDOW);
            if book.len() >= REMEMBERED_MAX {
                book.clear();
            }
        }
        let none = Failures {
            in_row: 0,
            last: now,
            in_window: 0,
            since: now,
        };
        let of = book.entry(key).or_insert(none);
        if now.duration_since(of.last) >= WINDOW {
            of.in_row = 0;
        }
        if now.duration_since(of.since) >= WINDOW {
            (of.in_window, of.since) = (0, now);
        }
        of.in_row = of.in_row.saturating_add(1);
        of.in_window = of.in_window.saturating_add(1);
        of.last = now;
    }
}

fn delay_after(failures: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    DELAY_MIN
        .checked_mul(factor)
        .map_or(DELAY_MAX, |delay| delay.min(DELAY_MAX))
}

/// What one client may have to itself: an IPv4 address, or an IPv6 /64. An IPv4-mapped address is the IPv4 one.
pub fn client_network(peer: IpAddr) -> IpAddr {
    prefix(peer, 32, 64)
}

/// What one operator may have to itself.
fn wide_network(peer: IpAddr) -> IpAddr {
    prefix(peer, 24, 48)
}

fn prefix(peer: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX << (32 - v4_bits);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - v6_bits);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test(start_paused = true)]
    async fn delays_double_and_end_with_a_success() {
        let throttle = Throttle::default();
        assert_eq!(throttle.admit("u@d", PEER), Verdict::Go);
        throttle.failed("u@d", PEER);
        assert_eq!(throttle.admit("u@d", PEER), Verdict::Wait(DELAY_MIN));
        throttle.failed("u@d", PEER);
        assert_eq!(throttle.admit("u@d", PEER), Verdict::Wait(DELAY_MIN * 2));
        assert_eq!(throttle.admit("other@d", PEER), Verdict::Go);
        throttle.succeeded("u@d");
        assert_eq!(throttle.admit("u@d", PEER), Verdict::Go);
        assert_eq!(delay_after(40), DELAY_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_guesses_is_refused_for_a_while() {
        let throttle = Throttle::default();
        for account in 0..ADDRESS_FAILURES_MAX {
            throttle.failed(&account.to_string(), PEER);
        }
        assert_eq!(throttle.admit("new@d", PEER), Verdict::Refuse);
        let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(throttle.admit("new@d", neighbour), Verdict::Go);
        tokio::time::advance(WINDOW).await;
        assert_eq!(throttle.admit("new@d", PEER), Verdict::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_guesses_is_refused_as_a_whole() {
        let throttle = Throttle::default();
        for number in 0..NETWORK_FAILURES_MAX {
            let host = u8::try_from(number).unwrap();
            throttle.failed(
                &number.to_string(),
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)),
            );
        }
        let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
        assert_eq!(throttle.admit("new@d", neighbour), Verdict::Refuse);
        let other = IpAddr::V4(Ipv4Addr::new(192, 0, 3, 1));
        assert_eq!(throttle.admit("new@d", other), Verdict::Go);
    }

    /// A phone with an old password, behind the address of a whole office.
    #[tokio::test(start_paused = true)]
    async fn who_fails_now_and_then_locks_nobody_out() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            throttle.failed("forgetful@d", PEER);
            assert_eq!(throttle.admit("other@d", PEER), Verdict::Go);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn loopback_is_never_refused() {
        let throttle = Throttle::default();
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let peer = peer.parse().unwrap();
            for number in 0..NETWORK_FAILURES_MAX {
                throttle.failed(&number.to_string(), peer);
            }
            assert_eq!(throttle.admit("new@d", peer), Verdict::Go);
        }
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let same = |network: fn(IpAddr) -> IpAddr, a, b| network(parse(a)) == network(parse(b));
        assert!(same(client_network, "2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same(client_network, "2001:db8::1", "2001:db8:0:1::1"));
        assert!(same(client_network, "::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same(client_network, "192.0.2.1", "192.0.2.2"));
        assert!(same(wide_network, "192.0.2.1", "192.0.2.2"));
        assert!(!same(wide_network, "192.0.2.1", "192.0.3.1"));
        assert!(same(wide_network, "2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same(wide_network, "2001:db8::1", "2001:db8:1::1"));
    }
}
