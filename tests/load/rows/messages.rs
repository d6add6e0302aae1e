//! One-to-one messages between pairs: the server's CPU per message, rate, latency, each message checked.
//!
//! Without `--rate` every message that arrives is answered by one (each session has `--in-flight` under way);
//! with it, one half sends to the other at a fixed pace, and nothing rides on anything.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::numbered::{Ledger, Template, partner};
use crate::crowd::{Crowd, Session, Workload};
use crate::framing;
use crate::login::Goal;
use crate::measure::{Server, Used, Window};
use crate::options::{Ask, Common, Messages};
use crate::report::{Failure, Report, Row};

/// With a fixed rate: messages under way beyond which the server plainly does not keep up.
const BEHIND_MAX: u64 = 200_000;
/// How long nothing may arrive at the end before what is missing counts as lost.
const LOST_AFTER_MAX: Duration = Duration::from_secs(5);
/// With a fixed rate: the share of it that must arrive within the window for a row to be printed.
const RATE_REACHED_MIN: f64 = 0.9;
/// How often a session that still waits for an ack asks again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) fn run(common: &Common, row: &Messages) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    let sessions = (row.crowd.sessions & !1).max(2);
    let stream_management = row.sm || row.settled;
    let goal = Goal::Session { stream_management };
    let mut crowd = Crowd::new(common, common.plan(goal), sessions)?;
    let mut talk = Talk {
        ledger: Ledger::new(sessions as usize),
        template: None,
        credits: vec![0; sessions as usize],
        in_flight: 0,
        settled: row.settled,
        ask: row.ask,
        lost_after: common.patience().min(LOST_AFTER_MAX),
        answering: false,
    };
    crowd.log_in(
        &mut talk,
        0..sessions as usize,
        common.first,
        common.logins_in_flight,
    )?;
    crowd.keys.save()?;
    talk.template = Some(Template::new(&crowd, common.first, row.message, "chat"));
    talk.finish(&mut crowd)?;
    let mut report = Report::new(common.json);
    let rounds = if row.rate.is_some() {
        &row.in_flight[..1]
    } else {
        &row.in_flight[..]
    };
    for &in_flight in rounds {
        let (received, used) = match row.rate {
            Some(rate) => talk.at_a_pace(&mut crowd, row, rate, &server)?,
            None => talk.answer_each_other(&mut crowd, row, in_flight, &server)?,
        };
        talk.finish(&mut crowd)?;
        talk.ledger.verdict()?;
        let rested = crowd.rested().div_duration_f64(used.wall) * 100.0;
        let line = talk.row(common, row, in_flight, received, &used);
        report.print(line.figure("rested_percent", Some(rested), 1), &used)?;
    }
    crowd.close_all()
}

struct Talk {
    ledger: Ledger,
    template: Option<Template>,
    /// Messages each session may send in answer.
    credits: Vec<u32>,
    in_flight: u32,
    settled: bool,
    ask: Ask,
    lost_after: Duration,
    answering: bool,
}

impl Talk {
    /// Each session keeps `in_flight` messages under way; counts those that arrive in the window.
    fn answer_each_other(
        &mut self,
        crowd: &mut Crowd,
        row: &Messages,
        in_flight: u32,
        server: &Server,
    ) -> Result<(u64, Used)> {
        (self.answering, self.in_flight) = (true, in_flight);
        for index in 0..crowd.sessions.len() {
            self.credits[index] = in_flight;
            crowd.send(index, |session, out| self.write(index, session, out))?;
            crowd.turn(self, Duration::ZERO)?;
        }
        self.run_for(crowd, Duration::from_secs_f64(row.warm_up_s), None)?;
        crowd.restart_rest();
        self.ledger.latency.clear();
        let (window, before) = (Window::open(server)?, self.ledger.received);
        self.run_for(crowd, Duration::from_secs_f64(row.seconds), None)?;
        let used = window.close()?;
        self.answering = false;
        Ok((self.ledger.received - before, used))
    }

    /// Sends `rate` messages per second from even sessions to odd ones.
    fn at_a_pace(
        &mut self,
        crowd: &mut Crowd,
        row: &Messages,
        rate: u32,
        server: &Server,
    ) -> Result<(u64, Used)> {
        let mut pace = Pace {
            rate,
            start: Instant::now(),
            sent: 0,
        };
        self.run_for(
            crowd,
            Duration::from_secs_f64(row.warm_up_s),
            Some(&mut pace),
        )?;
        crowd.restart_rest();
        self.ledger.latency.clear();
        let (window, before) = (Window::open(server)?, self.ledger.received);
        self.run_for(crowd, Duration::from_secs_f64(row.seconds), Some(&mut pace))?;
        let used = window.close()?;
        let received = self.ledger.received - before;
        let reached = received as f64 / used.wall.as_secs_f64() / f64::from(rate);
        ensure!(
            reached > RATE_REACHED_MIN,
            "only {:.0} % of {rate} messages per second arrived: the server or the generator is too slow",
            reached * 100.0
        );
        Ok((received, used))
    }

    fn run_for(
        &mut self,
        crowd: &mut Crowd,
        time: Duration,
        mut pace: Option<&mut Pace>,
    ) -> Result<()> {
        let end = Instant::now() + time;
        let mut ask_again = Instant::now() + ASK_AGAIN;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now >= ask_again && self.settled {
                self.ask_again(crowd)?;
                ask_again = now + ASK_AGAIN;
            }
            let wait = match &mut pace {
                Some(pace) => self.send_due(crowd, pace)?,
                None => ASK_AGAIN,
            };
            crowd.turn(self, wait.min(end - now))?;
        }
    }

    /// Sends what the pace asks for by now; answers how long until the next one.
    fn send_due(&mut self, crowd: &mut Crowd, pace: &mut Pace) -> Result<Duration> {
        let senders = crowd.sessions.len() as u64 / 2;
        while pace.next_in().is_zero() {
            let index = usize::try_from(pace.sent % senders * 2).expect("an index of a session");
            pace.sent += 1;
            self.credits[index] = 1;
            crowd.send(index, |session, out| self.write(index, session, out))?;
            self.credits[index] = 0;
        }
        let behind = self.ledger.sent - self.ledger.received;
        ensure!(
            behind <= BEHIND_MAX,
            "{behind} messages are under way: the server does not keep up"
        );
        Ok(pace.next_in())
    }

    /// Writes as many messages as the session may send now, and asks for an ack at most once.
    fn write(&mut self, index: usize, session: &mut Session, out: &mut Vec<u8>) {
        let Some(template) = &self.template else {
            return;
        };
        let paced = !self.answering;
        let mut wrote = false;
        while self.credits[index] > 0
            && (paced || !self.settled || session.sm.unacked() < 2 * self.in_flight)
        {
            self.credits[index] -= 1;
            self.ledger.write(template, index, partner(index), out);
            session.sm.sent = session.sm.sent.wrapping_add(1);
            wrote = true;
        }
        let ask = match self.ask {
            Ask::EachWrite => wrote,
            Ask::Waiting => self.credits[index] > 0,
        };
        if ask {
            session.sm.ask(out);
        }
    }

    /// Sessions that wait for an ack, their request having been answered with less, ask again. While messages are
    /// sent, only those wait that may not send before it.
    fn ask_again(&mut self, crowd: &mut Crowd) -> Result<()> {
        for index in 0..crowd.sessions.len() {
            let sm = crowd.sessions[index].sm;
            let waits = !self.answering || self.ask == Ask::EachWrite || self.credits[index] > 0;
            if waits && sm.enabled && !sm.asked && sm.unacked() > 0 {
                crowd.send(index, |session, out| session.sm.ask(out))?;
            }
        }
        Ok(())
    }

    /// Waits until all that was sent has arrived and, with stream management, is acknowledged.
    fn finish(&mut self, crowd: &mut Crowd) -> Result<()> {
        let mut last = (Instant::now(), 0, 0);
        loop {
            let unacked = |session: &Session| {
                if session.sm.enabled {
                    u64::from(session.sm.unacked())
                } else {
                    0
                }
            };
            let unacked: u64 = crowd.sessions.iter().map(unacked).sum();
            if self.ledger.is_complete() && unacked == 0 {
                self.credits.fill(0);
                return Ok(());
            }
            if (self.ledger.received, unacked) != (last.1, last.2) {
                last = (Instant::now(), self.ledger.received, unacked);
            } else if last.0.elapsed() > self.lost_after {
                self.ledger.verdict()?;
                let text = format!("{unacked} stanzas are not acknowledged though all arrived");
                return Err(Failure::Delivery(text).into());
            }
            self.ask_again(crowd)?;
            crowd.turn_for(self, ASK_AGAIN)?;
        }
    }

    fn row(
        &self,
        common: &Common,
        row: &Messages,
        in_flight: u32,
        received: u64,
        used: &Used,
    ) -> Row {
        let acks = match (row.settled, row.sm) {
            (true, _) => "settled",
            (false, true) => "sm",
            (false, false) => "none",
        };
        let line = Row::new("messages")
            .with("tls", common.tls.name())
            .with("acks", acks)
            .with("ask", if acks == "none" { "-" } else { row.ask.name() })
            .with("sessions", self.credits.len());
        let line = match row.rate {
            Some(rate) => line.with("in_flight", "paced").with("rate", rate),
            None => line.with("in_flight", in_flight).with("rate", "-"),
        };
        line.with("bytes", row.message.bytes)
            .with("messages", received)
            .used(used, received)
            .figure("p50_us", self.ledger.latency.quantile_microseconds(0.5), 0)
            .figure("p99_us", self.ledger.latency.quantile_microseconds(0.99), 0)
    }
}

impl Workload for Talk {
    fn ready(&mut self, _index: usize, session: &mut Session, out: &mut Vec<u8>) -> Result<()> {
        session.sm.ask(out);
        Ok(())
    }

    fn stanza(
        &mut self,
        index: usize,
        _session: &mut Session,
        stanza: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<()> {
        if framing::name(stanza) == b"message" && self.ledger.arrived(partner(index), stanza)? {
            self.credits[index] += 1;
        }
        Ok(())
    }

    fn read_ended(&mut self, index: usize, session: &mut Session, out: &mut Vec<u8>) {
        if self.answering {
            self.write(index, session, out);
        }
    }
}

/// A fixed rate of sending.
struct Pace {
    rate: u32,
    start: Instant,
    sent: u64,
}

impl Pace {
    /// How long until the next message is due; zero when it is.
    fn next_in(&self) -> Duration {
        let due = Duration::from_secs_f64(self.sent as f64 / f64::from(self.rate));
        due.saturating_sub(self.start.elapsed())
    }
}
