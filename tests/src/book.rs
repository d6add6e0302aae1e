//! What was sent, what its sender saw acknowledged, and what arrived: the judge of "acknowledged means safe".
//!
//! A message is told from all others by its number, which stands in its id and decides its text, so that a text that
//! arrives can be compared without having been kept.
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::{Element, ns};
use tokio::sync::Notify;

use crate::client::escape;

/// An acknowledgement of a receiver that is older than this when the node is killed must have had its effect: the
/// node deletes rows every 50 ms, on a machine that may be busy with other tests.
const EFFECT: Duration = Duration::from_secs(1);

/// Boots whose notes are of interest.
const NOTED_BOOTS: usize = 3;

/// The book of one node and all its boots.
#[derive(Default)]
pub struct Book {
    pages: Mutex<Pages>,
    /// Something was received or acknowledged.
    changed: Notify,
}

#[derive(Default)]
struct Pages {
    messages: Vec<Message>,
    /// How many of them have arrived.
    arrived: usize,
    /// How many are acknowledged and have not.
    missing: usize,
    /// Which boot of the node this is.
    boot: usize,
    bounces: usize,
    copies: usize,
    repeats: usize,
    problems: Vec<String>,
    notes: Vec<(usize, String)>,
}

struct Message {
    from: Arc<str>,
    to: Arc<str>,
    /// Goes to one session, so that a second arrival is a repeat and no copy.
    is_single: bool,
    bytes: usize,
    acked: bool,
    bounced: bool,
    arrivals: Vec<Arrival>,
    /// How often the node was ended while this was in flight: each time may have left one more copy.
    ends_in_flight: usize,
}

struct Arrival {
    boot: usize,
    /// Since when the node must know of it.
    confirmed: Option<Instant>,
}

/// Counts at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages sent.
    pub sent: usize,
    /// Those that their sender saw acknowledged.
    pub acked: usize,
    /// Those that arrived, each counted once.
    pub arrived: usize,
    /// Those that arrived although nothing was promised.
    pub arrived_unacked: usize,
    /// Arrivals of a message at a further session of its account.
    pub copies: usize,
    /// Arrivals of a message that was in flight when its session or the node ended, and came again.
    pub repeats: usize,
    /// Messages that were answered with an error.
    pub bounced: usize,
}

impl Book {
    /// Enters a message and returns its number and itself. `to` is a full or a bare address; to a bare one with
    /// several sessions, each may get a copy.
    pub fn send(
        &self,
        from: &str,
        to: &str,
        is_single: bool,
        message_type: &str,
        bytes: usize,
    ) -> (usize, String) {
        let account = to.split_once('/').map_or(to, |(account, _)| account);
        let mut pages = self.pages.lock();
        let number = pages.messages.len();
        pages.messages.push(Message {
            from: from.into(),
            to: account.into(),
            is_single,
            bytes,
            acked: false,
            bounced: false,
            arrivals: Vec::new(),
            ends_in_flight: 0,
        });
        drop(pages);
        let body = escape(&text(number, bytes));
        let message = format!(
            "<message to='{to}' type='{message_type}' id='m{number}'><body>{body}</body></message>"
        );
        (number, message)
    }

    /// How many messages were entered so far: the number of the next one.
    pub fn sent_count(&self) -> usize {
        self.pages.lock().messages.len()
    }

    /// The sender saw an acknowledgement.
    pub fn acknowledged(&self, number: usize) {
        let mut pages = self.pages.lock();
        pages.change(number, |message| message.acked = true);
        drop(pages);
        self.changed.notify_waiters();
    }

    /// A message came. Returns its number unless it is none of ours.
    pub fn received(&self, account: &str, message: &Element) -> Option<usize> {
        let mut pages = self.pages.lock();
        let number = match pages.identify(account, message) {
            Ok(number) => number,
            Err(problem) => {
                pages
                    .problems
                    .push(format!("{problem}: {}", message.to_xml()));
                return None;
            }
        };
        if message.attr("type") == Some("error") {
            pages.change(number, |message| message.bounced = true);
            pages.bounces += 1;
            return None;
        }
        pages.arrive(number);
        drop(pages);
        self.changed.notify_waiters();
        Some(number)
    }

    /// The node knows that the receiver has these.
    pub fn confirmed(&self, numbers: impl IntoIterator<Item = usize>) {
        let now = Instant::now();
        let mut pages = self.pages.lock();
        for number in numbers {
            if let Some(problem) = pages.confirm(number, now) {
                pages.problems.push(problem);
            }
        }
    }

    /// The node was ended at that time; what comes now comes from the next one.
    pub fn next_boot(&self, ended_at: Instant) {
        let mut pages = self.pages.lock();
        pages.boot += 1;
        for message in &mut pages.messages {
            let is_settled = |arrival: &Arrival| {
                arrival
                    .confirmed
                    .is_some_and(|at| ended_at.saturating_duration_since(at) >= EFFECT)
            };
            message.ends_in_flight += usize::from(!message.arrivals.iter().any(is_settled));
        }
    }

    /// Something worth knowing when something else is wrong.
    pub fn note(&self, text: &str) {
        let mut pages = self.pages.lock();
        let boot = pages.boot;
        pages.notes.push((boot, text.to_owned()));
    }

    /// Notes of the last boots.
    pub fn notes(&self) -> Vec<String> {
        let pages = self.pages.lock();
        let first = pages.boot.saturating_sub(NOTED_BOOTS);
        let notes = pages.notes.iter().filter(|(boot, _)| *boot >= first);
        notes
            .map(|(boot, text)| format!("boot {boot}: {text}"))
            .collect()
    }

    /// Something that must not be.
    pub fn problem(&self, text: String) {
        self.pages.lock().problems.push(text);
    }

    /// Acknowledged messages that have not arrived, as one line each.
    pub fn missing(&self) -> Vec<String> {
        let pages = self.pages.lock();
        let all = pages.messages.iter().enumerate();
        all.filter(|(_, message)| message.is_missing())
            .map(|(number, message)| format!("m{number} from {} to {}", message.from, message.to))
            .collect()
    }

    /// Waits until every acknowledged message has arrived, and returns what is missing after all this time.
    pub async fn settle(&self, wait: Duration) -> Vec<String> {
        let settled = self.wait_until(|pages| pages.missing == 0);
        match tokio::time::timeout(wait, settled).await {
            Ok(()) => Vec::new(),
            Err(_) => self.missing(),
        }
    }

    /// Waits until so many messages have arrived, however long it takes.
    pub async fn wait_until_arrived(&self, count: usize) {
        self.wait_until(|pages| pages.arrived >= count).await;
    }

    async fn wait_until(&self, is_true: impl Fn(&Pages) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_true(&self.pages.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Everything that was wrong so far.
    pub fn problems(&self) -> Vec<String> {
        self.pages.lock().problems.clone()
    }

    /// The counts so far.
    pub fn totals(&self) -> Totals {
        let pages = self.pages.lock();
        let count = |is: fn(&&Message) -> bool| pages.messages.iter().filter(is).count();
        Totals {
            sent: pages.messages.len(),
            acked: count(|message| message.acked),
            arrived: pages.arrived,
            arrived_unacked: count(|message| !message.acked && message.has_arrived()),
            copies: pages.copies,
            repeats: pages.repeats,
            bounced: pages.bounces,
        }
    }
}

impl Pages {
    /// All changes go through here that may change how many have arrived or are missing.
    fn change(&mut self, number: usize, change: impl FnOnce(&mut Message)) {
        let message = &mut self.messages[number];
        self.arrived -= usize::from(message.has_arrived());
        self.missing -= usize::from(message.is_missing());
        change(message);
        self.arrived += usize::from(message.has_arrived());
        self.missing += usize::from(message.is_missing());
    }

    /// The number of a message that is as it was sent.
    fn identify(&self, account: &str, message: &Element) -> Result<usize, String> {
        let id = message.attr("id").and_then(|id| id.strip_prefix('m'));
        let number: usize = id
            .and_then(|id| id.parse().ok())
            .ok_or("nobody sent this")?;
        let sent = self
            .messages
            .get(number)
            .ok_or("nobody has sent this yet")?;
        if message.attr("type") == Some("error") {
            return Ok(number);
        }
        if *sent.to != *account {
            return Err(format!("sent to {}, came to {account}", sent.to));
        }
        let from = message.attr("from").unwrap_or_default();
        if from.split_once('/').map(|(bare, _)| bare) != Some(&*sent.from) {
            return Err(format!("sent by {}", sent.from));
        }
        let body = message
            .child("body", ns::CLIENT)
            .ok_or("the body is gone")?;
        if body.text() != text(number, sent.bytes) {
            return Err("the body is another one".to_owned());
        }
        Ok(number)
    }

    fn arrive(&mut self, number: usize) {
        let message = &self.messages[number];
        if !message.arrivals.is_empty() {
            if message.is_single {
                self.repeats += 1;
            } else {
                self.copies += 1;
            }
        }
        let arrival = Arrival {
            boot: self.boot,
            confirmed: None,
        };
        self.change(number, |message| message.arrivals.push(arrival));
    }

    /// A receiver acknowledges a message once, and once more for each time that the node was ended while it was in
    /// flight. What was never acknowledged may come again and again.
    fn confirm(&mut self, number: usize, now: Instant) -> Option<String> {
        let message = &mut self.messages[number];
        let boot = self.boot;
        let open = message
            .arrivals
            .iter_mut()
            .find(|arrival| arrival.boot == boot && arrival.confirmed.is_none());
        open?.confirmed = Some(now);
        let confirmed = message
            .arrivals
            .iter()
            .filter(|arrival| arrival.confirmed.is_some());
        let is_too_often = message.is_single && confirmed.count() > 1 + message.ends_in_flight;
        is_too_often.then(|| {
            let boots: Vec<usize> = message
                .arrivals
                .iter()
                .map(|arrival| arrival.boot)
                .collect();
            format!(
                "m{number} to {} came in boots {boots:?}, and was in flight at the end of {} boots",
                message.to, message.ends_in_flight
            )
        })
    }
}

impl Message {
    fn has_arrived(&self) -> bool {
        !self.arrivals.is_empty()
    }

    fn is_missing(&self) -> bool {
        self.acked && !self.bounced && !self.has_arrived()
    }
}

/// The text of a message: at least `bytes` long, with all that has to be escaped or may be damaged.
fn text(number: usize, bytes: usize) -> String {
    const PIECES: [&str; 6] = [
        "wherefore ",
        "<art> & \"thou\" ",
        "ünïcödé ",
        "\u{1F9A6}\u{1F9A6} ",
        "]]&gt; ' ",
        "e\u{301}\u{10FFFD} ",
    ];
    let mut text = String::with_capacity(bytes + 64);
    write!(text, "m{number} ").expect("a string grows");
    let mut piece = number;
    while text.len() < bytes {
        text.push_str(PIECES[piece % PIECES.len()]);
        piece = piece.wrapping_mul(31).wrapping_add(7);
    }
    write!(text, " m{number}").expect("a string grows");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::DOMAIN;

    fn message(number: usize, to: &str, body: &str) -> Element {
        Element::new("message", ns::CLIENT)
            .with_attr("id", &format!("m{number}"))
            .with_attr("from", &format!("romeo@{DOMAIN}/orchard"))
            .with_attr("to", to)
            .with_child(Element::new("body", ns::CLIENT).with_text(body))
    }

    fn book_with_one() -> (Book, String) {
        let (book, juliet) = (Book::default(), format!("juliet@{DOMAIN}"));
        let (number, xml) = book.send(&format!("romeo@{DOMAIN}"), &juliet, true, "chat", 100);
        assert_eq!(number, 0);
        assert!(xml.contains("id='m0'"), "{xml}");
        (book, juliet)
    }

    #[test]
    fn what_was_acknowledged_and_never_came_is_missing() {
        let (book, juliet) = book_with_one();
        assert!(book.missing().is_empty(), "nothing was promised");
        book.acknowledged(0);
        assert_eq!(book.missing().len(), 1);
        book.received(&juliet, &message(0, &juliet, &text(0, 100)));
        assert!(book.missing().is_empty());
        assert!(book.problems().is_empty(), "{:?}", book.problems());
    }

    #[test]
    fn what_is_not_as_it_was_sent_is_a_problem() {
        let (book, juliet) = book_with_one();
        let romeo = format!("romeo@{DOMAIN}");
        book.received(&juliet, &message(0, &juliet, "another text"));
        book.received(&romeo, &message(0, &romeo, &text(0, 100)));
        book.received(&juliet, &message(1, &juliet, &text(1, 100)));
        assert_eq!(book.problems().len(), 3, "{:?}", book.problems());
        assert_eq!(book.totals().arrived, 0);
    }

    #[test]
    fn what_was_in_flight_may_come_again_and_what_was_not_may_not() {
        let (book, juliet) = book_with_one();
        let came = message(0, &juliet, &text(0, 100));
        let come_and_confirm = || {
            book.received(&juliet, &came);
            book.confirmed([0]);
        };
        // Not acknowledged: free.
        book.received(&juliet, &came);
        come_and_confirm();
        // Ended right behind the acknowledgement: it may not have had its effect.
        book.next_boot(Instant::now());
        come_and_confirm();
        assert_eq!((book.totals().repeats, book.problems().len()), (2, 0));
        come_and_confirm();
        assert_eq!((book.totals().repeats, book.problems().len()), (3, 1));
    }
}
