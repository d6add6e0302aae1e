//! Limits on guessing (security case A11): turns per account, refusals per address and network. No hard lock, since
//! that would lock people out.
//!
//! An account's guesses take turns, from wherever they come: after a failure the next one has to wait, and so has
//! everybody else's. So many addresses guess no faster than one. An address from which the account has logged in has a
//! turn of its own, so that strangers keep nobody waiting at home.
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::time::Instant;

/// First delay after a failure; it doubles with each further one.
pub const DELAY_MIN: Duration = Duration::from_millis(500);
/// Longest delay, and the longest time that a guess waits for its turn; then it is refused.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Guesses at once for an account without failures: as many devices come back together after a cut.
pub const GUESSES_AT_ONCE_MAX: u32 = 10;
/// How long an account's failures in a row are remembered after the last one. Longer than the longest delay, or who
/// waits it out would begin anew.
pub const ACCOUNT_WINDOW: Duration = Duration::from_secs(600);
/// Failures of one IPv4 address or IPv6 /64 within [`WINDOW`]; then it is refused until the window is over.
pub const ADDRESS_FAILURES_MAX: u32 = 10;
/// The same for an IPv4 /24 or IPv6 /48.
pub const NETWORK_FAILURES_MAX: u32 = 100;
/// The window of the addresses' limits.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Accounts, addresses and networks remembered at a time, each; the stale ones are forgotten first, then all.
pub const REMEMBERED_MAX: usize = 50_000;
/// Pairs of an account and an address it has logged in from, twice: as many newer ones are remembered as there may be
/// older ones, and then those are forgotten.
pub const KNOWN_MAX: usize = 50_000;

/// Remembers failures.
#[derive(Default)]
pub struct Throttle {
    hasher: RandomState,
    /// By a hash, as a name may be long: of the account, or of it and an address that it is known to come from.
    lanes: Lanes,
    known: Mutex<Known>,
    addresses: Book<IpAddr>,
    networks: Book<IpAddr>,
}

impl Throttle {
    /// Whether too many guesses from there were wrong.
    pub fn refuses(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        // Behind a balancer on this machine everybody comes from loopback.
        let is_told_apart = !peer.to_canonical().is_loopback();
        is_told_apart
            && (self.addresses.in_window(&client_network(peer), now) >= ADDRESS_FAILURES_MAX
                || self.networks.in_window(&wide_network(peer), now) >= NETWORK_FAILURES_MAX)
    }

    /// Waits until a password may be tried. `false` if that takes too long, or too many guesses from there were wrong.
    pub async fn turn(&self, account: &str, peer: IpAddr) -> bool {
        let latest = Instant::now() + DELAY_MAX;
        loop {
            if self.refuses(peer) {
                return false;
            }
            let Err(next) = self.lanes.take(self.lane(account, peer), Instant::now()) else {
                return true;
            };
            if next > latest {
                return false;
            }
            // Somebody else may be quicker then.
            tokio::time::sleep_until(next).await;
        }
    }

    /// Notes a wrong password.
    pub fn failed(&self, account: &str, peer: IpAddr) {
        let now = Instant::now();
        self.lanes.failed(self.lane(account, peer), now);
        self.addresses.note(client_network(peer), now);
        self.networks.note(wide_network(peer), now);
    }

    /// Forgets an account's failures, and remembers where it comes from.
    pub fn succeeded(&self, account: &str, peer: IpAddr) {
        self.lanes.forget(self.lane(account, peer));
        if !peer.to_canonical().is_loopback() {
            self.known.lock().insert(self.pair(account, peer));
        }
    }

    /// The lane of a guess: that of its account, or its own if the account has logged in from there.
    fn lane(&self, account: &str, peer: IpAddr) -> u64 {
        let pair = self.pair(account, peer);
        if self.known.lock().has(pair) {
            pair
        } else {
            self.hasher.hash_one(account)
        }
    }

    fn pair(&self, account: &str, peer: IpAddr) -> u64 {
        self.hasher.hash_one((account, client_network(peer)))
    }
}

/// When the next guess may be made, by lane.
#[derive(Default)]
struct Lanes(Mutex<HashMap<u64, Lane, RandomState>>);

#[derive(Clone, Copy)]
struct Lane {
    /// Failures since the last success.
    in_row: u32,
    /// When the last guess was made, or failed.
    last: Instant,
    /// When a guess of a lane without failures would be one too many, [`GUESSES_AT_ONCE_MAX`] apart from now.
    /// After a failure: when the next guess may be made.
    next: Instant,
}

impl Lanes {
    /// Takes the turn, or says when there is one.
    fn take(&self, key: u64, now: Instant) -> Result<(), Instant> {
        self.with(key, now, |lane| lane.take(now))
    }

    fn failed(&self, key: u64, now: Instant) {
        self.with(key, now, |lane| lane.failed(now));
    }

    fn with<T>(&self, key: u64, now: Instant, f: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.0.lock();
        make_room(&mut lanes, &key, |lane| !lane.is_stale(now));
        let lane = lanes.entry(key).or_insert_with(|| Lane::new(now));
        if lane.is_stale(now) {
            *lane = Lane::new(now);
        }
        f(lane)
    }

    fn forget(&self, key: u64) {
        self.0.lock().remove(&key);
    }
}

impl Lane {
    fn new(now: Instant) -> Self {
        Self {
            in_row: 0,
            last: now,
            next: now,
        }
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= ACCOUNT_WINDOW
    }

    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        // Without a failure a few may come at once, and then one in each delay: nobody knows yet how they end.
        let ahead = if self.in_row == 0 {
            DELAY_MIN * (GUESSES_AT_ONCE_MAX - 1)
        } else {
            Duration::ZERO
        };
        if self.next > now + ahead {
            return Err(self.next - ahead);
        }
        self.next = self.next.max(now) + delay_after(self.in_row.max(1));
        self.last = now;
        Ok(())
    }

    fn failed(&mut self, now: Instant) {
        self.in_row = self.in_row.saturating_add(1);
        self.last = now;
        self.next = self.next.max(now + delay_after(self.in_row));
    }
}

/// Where accounts have logged in from, as hashes.
#[derive(Default)]
struct Known {
    newer: HashSet<u64, RandomState>,
    older: HashSet<u64, RandomState>,
}

impl Known {
    fn has(&self, pair: u64) -> bool {
        self.newer.contains(&pair) || self.older.contains(&pair)
    }

    fn insert(&mut self, pair: u64) {
        if self.newer.len() >= KNOWN_MAX && !self.newer.contains(&pair) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(pair);
    }
}

/// Makes room for one more: forgets what need not be kept, else all.
fn make_room<K: Hash + Eq, V>(
    book: &mut HashMap<K, V, RandomState>,
    key: &K,
    mut is_kept: impl FnMut(&V) -> bool,
) {
    if book.len() >= REMEMBERED_MAX && !book.contains_key(key) {
        book.retain(|_, entry| is_kept(entry));
        if book.len() >= REMEMBERED_MAX {
            book.clear();
        }
    }
}

struct Book<K>(Mutex<HashMap<K, Failures, RandomState>>);

#[derive(Clone, Copy)]
struct Failures {
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
    fn in_window(&self, key: &K, now: Instant) -> u32 {
        let book = self.0.lock();
        let failures = book
            .get(key)
            .filter(|of| now.duration_since(of.since) < WINDOW);
        failures.map_or(0, |of| of.in_window)
    }

    fn note(&self, key: K, now: Instant) {
        let mut book = self.0.lock();
        make_room(&mut book, &key, |of| now.duration_since(of.since) < WINDOW);
        let none = Failures {
            in_window: 0,
            since: now,
        };
        let of = book.entry(key).or_insert(none);
        if now.duration_since(of.since) >= WINDOW {
            *of = none;
        }
        of.in_window = of.in_window.saturating_add(1);
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
    use tokio::time::timeout;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// An address in a network of its own.
    fn stranger(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, number, 100, 1))
    }

    /// How long a guess waits; it is not wrong yet.
    async fn wait_of(throttle: &Throttle, account: &str, peer: IpAddr) -> Option<Duration> {
        let began = Instant::now();
        let is_admitted = throttle.turn(account, peer).await;
        is_admitted.then(|| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_and_end_with_a_success() {
        let throttle = Throttle::default();
        let mut expected = Duration::ZERO;
        for _ in 0..9 {
            let wait = wait_of(&throttle, "u@d", PEER).await.unwrap();
            assert!(
                wait.abs_diff(expected) < DELAY_MIN / 10,
                "{wait:?} {expected:?}"
            );
            throttle.failed("u@d", stranger(1));
            expected = (expected * 2).clamp(DELAY_MIN, DELAY_MAX);
        }
        assert_eq!(
            wait_of(&throttle, "other@d", PEER).await,
            Some(Duration::ZERO)
        );
        throttle.succeeded("u@d", stranger(2));
        assert_eq!(wait_of(&throttle, "u@d", PEER).await, Some(Duration::ZERO));
        assert_eq!(delay_after(40), DELAY_MAX);
    }

    /// Many addresses guess no faster than one: those who come at once are counted before anybody knows how they end,
    /// and afterwards they take turns.
    #[tokio::test(start_paused = true)]
    async fn guesses_from_many_addresses_take_turns() {
        const MINUTES: u32 = 10;
        let throttle = Throttle::default();
        let guesses = parking_lot::Mutex::new(Vec::new());
        let began = Instant::now();
        let guess_on = async |number: u8| {
            loop {
                if throttle.turn("u@d", stranger(number)).await {
                    guesses.lock().push(began.elapsed());
                    // Hashing takes a while, and all who come at once are through before the first is known to fail.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    throttle.failed("u@d", stranger(number));
                } else {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let all = futures_of_all(200, guess_on);
        let _over = timeout(WINDOW * MINUTES, all).await;
        let mut guesses = guesses.into_inner();
        guesses.sort();
        let at_once = guesses.iter().filter(|at| at.is_zero()).count();
        assert_eq!(at_once, GUESSES_AT_ONCE_MAX as usize);
        let (first, rest) = guesses.split_at(at_once);
        assert_eq!(first.len() + rest.len(), guesses.len());
        assert!(rest.len() <= MINUTES as usize, "{rest:?}");
        assert!(rest.len() >= MINUTES as usize - 1, "{rest:?}");
        assert!(rest.windows(2).all(|pair| pair[1] - pair[0] >= DELAY_MAX));
    }

    /// All of them at the same time.
    async fn futures_of_all<F: Future<Output = ()>>(count: u8, make: impl Fn(u8) -> F) {
        let mut all: Vec<_> = (0..count).map(|number| Box::pin(make(number))).collect();
        std::future::poll_fn(|cx| {
            for one in &mut all {
                let _never = one.as_mut().poll(cx);
            }
            std::task::Poll::<()>::Pending
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keep_nobody_waiting_where_the_account_is_known() {
        let throttle = Throttle::default();
        throttle.succeeded("u@d", PEER);
        for number in 0..20 {
            throttle.failed("u@d", stranger(number));
        }
        assert_eq!(wait_of(&throttle, "u@d", PEER).await, Some(Duration::ZERO));
        // Who guesses there waits like everybody else.
        throttle.failed("u@d", PEER);
        assert_eq!(wait_of(&throttle, "u@d", PEER).await, Some(DELAY_MIN));
        // And it is not known for other accounts.
        throttle.failed("other@d", stranger(1));
        assert_eq!(wait_of(&throttle, "other@d", PEER).await, Some(DELAY_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_refused() {
        let throttle = Throttle::default();
        for _ in 0..20 {
            throttle.failed("u@d", stranger(1));
        }
        let (one, other) = tokio::join!(
            wait_of(&throttle, "u@d", stranger(2)),
            wait_of(&throttle, "u@d", stranger(3)),
        );
        assert_eq!(one.or(other), Some(DELAY_MAX), "one of them has the turn");
        assert_eq!(
            one.and(other),
            None,
            "the other would wait for twice as long"
        );
    }

    #[test]
    fn the_oldest_known_addresses_are_forgotten() {
        let mut known = Known::default();
        for pair in 0..3 * KNOWN_MAX as u64 {
            known.insert(pair);
            known.insert(pair);
            assert!(known.has(pair) && known.has(pair.saturating_sub(KNOWN_MAX as u64 - 1)));
            assert!(known.newer.len() <= KNOWN_MAX && known.older.len() <= KNOWN_MAX);
        }
        assert!(!known.has(0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_accounts_has_a_limit() {
        let throttle = Throttle::default();
        throttle.failed("forgotten@d", PEER);
        tokio::time::advance(ACCOUNT_WINDOW).await;
        for number in 0..REMEMBERED_MAX - 1 {
            throttle.failed(&number.to_string(), PEER);
        }
        assert_eq!(throttle.lanes.0.lock().len(), REMEMBERED_MAX);
        assert!(throttle.turn("new@d", stranger(1)).await);
        assert_eq!(
            throttle.lanes.0.lock().len(),
            REMEMBERED_MAX,
            "a stale one went"
        );
        assert!(throttle.turn("newer@d", stranger(1)).await);
        assert_eq!(throttle.lanes.0.lock().len(), 1, "none was stale");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_guesses_is_refused_for_a_while() {
        let throttle = Throttle::default();
        for account in 0..ADDRESS_FAILURES_MAX {
            throttle.failed(&account.to_string(), PEER);
        }
        assert_eq!(wait_of(&throttle, "new@d", PEER).await, None);
        let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
        assert!(!throttle.refuses(neighbour));
        tokio::time::advance(WINDOW).await;
        assert_eq!(
            wait_of(&throttle, "new@d", PEER).await,
            Some(Duration::ZERO)
        );
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
        assert!(throttle.refuses(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200))));
        assert!(!throttle.refuses(IpAddr::V4(Ipv4Addr::new(192, 0, 3, 1))));
    }

    /// A phone with an old password, behind the address of a whole office.
    #[tokio::test(start_paused = true)]
    async fn who_fails_now_and_then_locks_nobody_out() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            throttle.failed("forgetful@d", PEER);
            assert_eq!(
                wait_of(&throttle, "other@d", PEER).await,
                Some(Duration::ZERO)
            );
            throttle.succeeded("other@d", PEER);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn loopback_is_never_refused_and_never_known() {
        let throttle = Throttle::default();
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let peer = peer.parse().unwrap();
            for number in 0..NETWORK_FAILURES_MAX {
                throttle.failed(&number.to_string(), peer);
            }
            assert!(!throttle.refuses(peer));
            throttle.succeeded("u@d", peer);
        }
        assert!(throttle.known.lock().newer.is_empty());
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
