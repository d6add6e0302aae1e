//! Limits on guessing: delays per account, refusals per address. No hard lock, since that would lock people out.
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// First delay after a failure; it doubles with each further one.
pub const DELAY_MIN: Duration = Duration::from_millis(500);
/// Longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Failures of one address within [`WINDOW`] before it is refused.
pub const ADDRESS_FAILURES_MAX: u32 = 10;
/// The window of the addresses' limit, and how long a failure of an account is remembered.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Accounts and addresses remembered at a time; the stale ones are forgotten first, then all.
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

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

type Book<K> = Mutex<HashMap<K, Failures, RandomState>>;

/// Remembers failures.
#[derive(Default)]
pub struct Throttle {
    accounts: Book<Box<str>>,
    addresses: Book<IpAddr>,
}

impl Throttle {
    /// Whether an attempt may go on.
    pub fn admit(&self, account: &str, peer: IpAddr) -> Verdict {
        let now = Instant::now();
        let address = network(peer);
        // Behind a balancer on this machine everybody comes from loopback.
        if !address.is_loopback()
            && let Some(failures) = self.addresses.lock().get(&address)
            && failures.count >= ADDRESS_FAILURES_MAX
            && now.duration_since(failures.last) < WINDOW
        {
            return Verdict::Refuse;
        }
        let accounts = self.accounts.lock();
        match accounts.get(account) {
            Some(failures) if now.duration_since(failures.last) < WINDOW => {
                Verdict::Wait(delay_after(failures.count))
            }
            _ => Verdict::Go,
        }
    }

    /// Notes a wrong password.
    pub fn failed(&self, account: &str, peer: IpAddr) {
        note(&self.accounts, account.into());
        note(&self.addresses, network(peer));
    }

    /// Forgets an account's failures.
    pub fn succeeded(&self, account: &str) {
        let mut accounts = self.accounts.lock();
        if !accounts.is_empty() {
            accounts.remove(account);
        }
    }
}

fn note<K: std::hash::Hash + Eq>(book: &Book<K>, key: K) {
    let now = Instant::now();
    let mut book = book.lock();
    if book.len() >= REMEMBERED_MAX {
        book.retain(|_, failures| now.duration_since(failures.last) < WINDOW);
        if book.len() >= REMEMBERED_MAX {
            book.clear();
        }
    }
    let failures = book.entry(key).or_insert(Failures {
        count: 0,
        last: now,
    });
    if now.duration_since(failures.last) >= WINDOW {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
}

fn delay_after(failures: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    DELAY_MIN
        .checked_mul(factor)
        .map_or(DELAY_MAX, |delay| delay.min(DELAY_MAX))
}

/// An IPv6 client owns at least a /64; an IPv4-mapped address is the IPv4 one.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

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
        tokio::time::advance(WINDOW).await;
        assert_eq!(throttle.admit("new@d", PEER), Verdict::Go);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let a: IpAddr = "2001:db8::1".parse().expect("an address");
        let b: IpAddr = "2001:db8::ffff:2".parse().expect("an address");
        assert_eq!(network(a), network(b));
    }
}
