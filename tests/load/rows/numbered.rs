//! Numbered messages: each carries its sender's count and the time it was sent, so that loss, duplicates,
//! order and latency are known for every one of them.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use hashbrown::HashMap;

use crate::crowd::Crowd;
use crate::framing;
use crate::histogram::Histogram;
use crate::login::Account;
use crate::options::Message;
use crate::report::Failure;

/// Hexadecimal digits of a message's number and of its time in nanoseconds since the start (2^48 ns are three
/// days) in the `id`, after one letter.
const NUMBER_DIGITS: usize = 8;
const TIME_DIGITS: usize = 12;
/// Missing numbers kept per sender to tell late from doubled; more than this is a loss already.
const MISSING_MAX: usize = 10_000;

/// How the messages of a run look.
pub(crate) struct Template {
    account: Account,
    first: u32,
    kind: &'static str,
    bytes: usize,
    to_bare: bool,
    /// Resources of sessions that did not get the one they asked for.
    resources: HashMap<usize, Box<str>, ahash::RandomState>,
}

impl Template {
    /// For sessions that are logged in; session `i` is account `first + i`.
    pub(crate) fn new(crowd: &Crowd, first: u32, message: Message, kind: &'static str) -> Self {
        let chosen = |(index, session): (usize, &crate::crowd::Session)| {
            Some((index, session.login.resource.clone()?))
        };
        Self {
            account: crowd.plan.account.clone(),
            first,
            kind,
            bytes: message.bytes as usize,
            to_bare: message.to_bare,
            resources: crowd
                .sessions
                .iter()
                .enumerate()
                .filter_map(chosen)
                .collect(),
        }
    }

    fn write(&self, to: usize, number: u32, time: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"<message to='");
        out.extend_from_slice(self.account.users_prefix.as_bytes());
        digits::<6>(self.first as usize + to, out);
        out.push(b'@');
        out.extend_from_slice(self.account.domain.as_bytes());
        if !self.to_bare {
            out.push(b'/');
            let resource = match self.resources.get(&to) {
                Some(chosen) => chosen,
                None => self.account.resource.as_str(),
            };
            out.extend_from_slice(resource.as_bytes());
        }
        out.extend_from_slice(b"' id='m");
        hexadecimal::<NUMBER_DIGITS>(number.into(), out);
        hexadecimal::<TIME_DIGITS>(time, out);
        out.extend_from_slice(b"' type='");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"'><body>");
        const END: &[u8] = b"</body></message>";
        let length = (start + self.bytes).saturating_sub(END.len());
        out.resize(length.max(out.len() + 1), b'x');
        out.extend_from_slice(END);
    }
}

/// Decimal digits with leading zeros.
fn digits<const COUNT: usize>(mut value: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; COUNT];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("below 10");
        value /= 10;
    }
    out.extend_from_slice(&text);
}

fn hexadecimal<const COUNT: usize>(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; COUNT];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
    out.extend_from_slice(&text);
}

/// The number and time of an `id` of ours.
fn parse_id(id: &[u8]) -> Option<(u32, u64)> {
    let text = std::str::from_utf8(id.strip_prefix(b"m")?).ok()?;
    if text.len() != NUMBER_DIGITS + TIME_DIGITS {
        return None;
    }
    let (number, time) = text.split_at_checked(NUMBER_DIGITS)?;
    Some((
        u32::from_str_radix(number, 16).ok()?,
        u64::from_str_radix(time, 16).ok()?,
    ))
}

/// What one sender has sent and its one receiver has got of it.
#[derive(Default)]
struct Flow {
    next: u32,
    expected: u32,
    missing: BTreeSet<u32>,
}

/// Accounts for every message between senders and their one receiver each.
pub(crate) struct Ledger {
    flows: Vec<Flow>,
    start: Instant,
    pub(crate) sent: u64,
    /// Messages that arrived for the first time.
    pub(crate) received: u64,
    doubled: u64,
    reordered: u64,
    bounced: u64,
    first_bounce: Option<String>,
    /// Time from the write at the sender to the read at the receiver.
    pub(crate) latency: Histogram,
}

impl Ledger {
    pub(crate) fn new(senders: usize) -> Self {
        Self {
            flows: (0..senders).map(|_| Flow::default()).collect(),
            start: Instant::now(),
            sent: 0,
            received: 0,
            doubled: 0,
            reordered: 0,
            bounced: 0,
            first_bounce: None,
            latency: Histogram::new(),
        }
    }

    /// Nanoseconds since the ledger was made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Appends the next message of `from` to `to`.
    pub(crate) fn write(&mut self, template: &Template, from: usize, to: usize, out: &mut Vec<u8>) {
        let time = self.now();
        let flow = &mut self.flows[from];
        template.write(to, flow.next, time, out);
        flow.next = flow.next.wrapping_add(1);
        self.sent += 1;
    }

    /// Takes a `<message/>` that has come from `from`; whether it is the first copy of one of ours.
    pub(crate) fn arrived(&mut self, from: usize, message: &[u8]) -> Result<bool> {
        if framing::attribute(message, b"type") == Some(b"error") {
            self.bounced += 1;
            self.first_bounce
                .get_or_insert_with(|| crate::login::readable(message));
            return Ok(false);
        }
        let Some((number, time)) = framing::attribute(message, b"id").and_then(parse_id) else {
            // Greetings and other things a server sends by itself.
            return Ok(false);
        };
        let flow = &mut self.flows[from];
        let ahead = number.wrapping_sub(flow.expected);
        if ahead == 0 {
            flow.expected = flow.expected.wrapping_add(1);
        } else if number < flow.next && ahead < u32::MAX / 2 {
            let missing = &mut flow.missing;
            ensure!(
                missing.len() + ahead as usize <= MISSING_MAX,
                Failure::Delivery(format!("{ahead} messages of session {from} are missing"))
            );
            missing.extend((0..ahead).map(|step| flow.expected.wrapping_add(step)));
            flow.expected = number.wrapping_add(1);
        } else if flow.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
            return Ok(false);
        }
        self.received += 1;
        self.latency.record(self.now().saturating_sub(time));
        Ok(true)
    }

    /// How many messages of `sender` have come, when none is missing.
    pub(crate) fn received_of(&self, sender: usize) -> u32 {
        self.flows[sender].expected
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received + self.bounced >= self.sent
    }

    /// Fails unless every message sent has arrived once and in order.
    pub(crate) fn verdict(&self) -> Result<()> {
        let lost = self.sent - self.received;
        if lost == 0 && self.doubled == 0 && self.reordered == 0 && self.bounced == 0 {
            return Ok(());
        }
        let mut text = format!(
            "of {} messages {lost} did not arrive ({} of them answered with an error), {} came twice, \
             {} out of order",
            self.sent, self.bounced, self.doubled, self.reordered
        );
        if let Some(bounce) = &self.first_bounce {
            text = format!("{text}; first error: {bounce}");
        }
        Err(Failure::Delivery(text)).context("delivery")
    }
}

/// The session that `index` talks to.
pub(crate) fn partner(index: usize) -> usize {
    index ^ 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::readable;

    fn template(bytes: usize) -> Template {
        Template {
            account: Account {
                domain: "localhost".to_owned(),
                users_prefix: "load".to_owned(),
                password: String::new(),
                resource: "r".to_owned(),
            },
            first: 10,
            kind: "chat",
            bytes,
            to_bare: false,
            resources: [(3, "other".into())].into_iter().collect(),
        }
    }

    #[test]
    fn a_message_has_the_length_asked_for() {
        for bytes in [120, 242, 300] {
            let mut out = b"before".to_vec();
            template(bytes).write(2, 0xab, 0x123, &mut out);
            assert_eq!(out.len(), 6 + bytes);
            assert!(
                out.starts_with(
                    b"before<message to='load000012@localhost/r' \
                      id='m000000ab000000000123' type='chat'><body>x"
                ),
                "{}",
                readable(&out)
            );
        }
        let mut out = Vec::new();
        template(100).write(3, 1, 1, &mut out);
        assert!(
            readable(&out).contains("load000013@localhost/other' "),
            "{}",
            readable(&out)
        );
    }

    fn check(sent: u32, arrivals: &[u32], expected: &str) {
        let mut ledger = Ledger::new(1);
        let template = template(150);
        let messages: Vec<Vec<u8>> = (0..sent)
            .map(|_| {
                let mut out = Vec::new();
                ledger.write(&template, 0, 1, &mut out);
                out
            })
            .collect();
        for number in arrivals {
            ledger.arrived(0, &messages[*number as usize]).unwrap();
        }
        let verdict = ledger
            .verdict()
            .map_or_else(|error| format!("{error:#}"), |()| "good".into());
        assert!(verdict.contains(expected), "{arrivals:?}: {verdict}");
    }

    #[test]
    fn loss_order_and_duplicates_are_told_apart() {
        check(3, &[0, 1, 2], "good");
        check(3, &[0, 1], "of 3 messages 1 did not arrive");
        check(3, &[0, 2], "of 3 messages 1 did not arrive");
        check(
            3,
            &[0, 2, 1],
            "0 did not arrive (0 of them answered with an error), 0 came twice, 1 out",
        );
        check(
            3,
            &[0, 1, 1, 2],
            "0 did not arrive (0 of them answered with an error), 1 came twice, 0 out",
        );
        check(3, &[2, 0, 0, 1], "1 came twice, 2 out of order");
    }

    #[test]
    fn errors_are_counted_and_shown() {
        let mut ledger = Ledger::new(1);
        ledger.write(&template(150), 0, 1, &mut Vec::new());
        assert!(
            !ledger
                .arrived(0, b"<message type='error' id='x'><error/></message>")
                .unwrap()
        );
        assert!(!ledger.arrived(0, b"<message id='welcome'/>").unwrap());
        assert!(ledger.is_complete());
        let error = format!("{:#}", ledger.verdict().unwrap_err());
        assert!(
            error.contains("1 of them answered with an error"),
            "{error}"
        );
        assert!(
            error.contains("first error: <message type='error'"),
            "{error}"
        );
    }
}
