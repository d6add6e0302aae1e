//! Message carbons (XEP-0280): users with several clients each talk in pairs, first without copies and then with them. What
//! a copy costs is the difference, by the number of copies; it is held against what a message costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::numbered::{Ledger, Template, partner};
use crate::crowd::{Crowd, Session, Workload};
use crate::framing;
use crate::login::Goal;
use crate::measure::{Server, Used, Window};
use crate::options::{Carbons, Common};
use crate::report::{Failure, Report, Row};

const NAMESPACE: &str = "urn:xmpp:carbons:2";

pub(crate) fn run(common: &Common, row: &Carbons) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    ensure!(server.is_observed(), "the carbons row needs --server-pid");
    let users = (row.crowd.sessions as usize & !1).max(2);
    let clients = row.clients as usize;
    let goal = Goal::Session {
        stream_management: false,
    };
    let count = u32::try_from(users * clients)?;
    let mut crowd = Crowd::new(common, common.plan(goal), count)?;
    let mut talk = Talk::new(users);
    // The first clients of all users, which talk; then the second ones, which only get copies; and so on.
    for client in (0..clients).rev() {
        crowd.plan.account.resource = format!("{}{client}", common.resource);
        let of_client = client * users..(client + 1) * users;
        let number = |index: usize| common.first + u32::try_from(index % users).unwrap_or(0);
        crowd.log_in_as(&mut talk, of_client, number, common.logins_in_flight)?;
    }
    crowd.keys.save()?;
    talk.template = Some(Template::new(&crowd, common.first, row.message, "chat"));
    let (messages, without) = talk.talk(&mut crowd, row, &server)?;
    talk.enable(&mut crowd)?;
    // Each message goes to the other clients of its sender and of its receiver.
    talk.copies_per_message = 2 * (clients as u64 - 1);
    let (copied, with) = talk.talk(&mut crowd, row, &server)?;
    crowd.close_all()?;

    let cpu_us = |used: &Used, count: u64| {
        let total = used.server.map_or(0.0, |(total, _)| total.as_secs_f64());
        total * 1e6 / count.max(1) as f64
    };
    let message = cpu_us(&without, messages);
    let copy = (cpu_us(&with, copied) - message) / talk.copies_per_message as f64;
    let line = Row::new("carbons")
        .with("tls", common.tls.name())
        .with("users", users)
        .with("clients", clients)
        .with("copies_per_message", talk.copies_per_message)
        .figure("message_us", Some(message), 2)
        .figure("copy_us", Some(copy), 2)
        .figure("copy_to_message", Some(copy / message), 2)
        .used(&with, copied);
    let mut report = Report::new(common.json);
    report.print(line, &with)
}

/// Sessions below `users` talk in pairs; the others get copies.
struct Talk {
    users: usize,
    ledger: Ledger,
    template: Option<Template>,
    is_on: bool,
    enabled: usize,
    copies_per_message: u64,
    copies: u64,
}

impl Talk {
    fn new(users: usize) -> Self {
        Self {
            users,
            ledger: Ledger::new(users),
            template: None,
            is_on: false,
            enabled: 0,
            copies_per_message: 0,
            copies: 0,
        }
    }

    /// All clients ask for copies.
    fn enable(&mut self, crowd: &mut Crowd) -> Result<()> {
        for index in 0..crowd.sessions.len() {
            let request = format!("<iq type='set' id='carbons'><enable xmlns='{NAMESPACE}'/></iq>");
            crowd.send(index, |_, out| out.extend_from_slice(request.as_bytes()))?;
            crowd.turn(self, Duration::ZERO)?;
        }
        let all = crowd.sessions.len();
        crowd.turn_until(self, "enabling carbons", |_, talk| Ok(talk.enabled == all))
    }

    /// Each message that arrives is answered by one, for the time of the row; counts those of the window.
    fn talk(&mut self, crowd: &mut Crowd, row: &Carbons, server: &Server) -> Result<(u64, Used)> {
        let (sent_before, copies_before) = (self.ledger.sent, self.copies);
        self.is_on = true;
        for index in 0..self.users {
            crowd.send(index, |_, out| self.write(index, out))?;
            crowd.turn(self, Duration::ZERO)?;
        }
        self.run_for(crowd, row.warm_up_s)?;
        crowd.restart_rest();
        let (window, before) = (Window::open(server)?, self.ledger.received);
        self.run_for(crowd, row.seconds)?;
        let used = window.close()?;
        let received = self.ledger.received - before;
        self.is_on = false;
        crowd.turn_until(
            self,
            "waiting for the last messages and copies",
            |_, talk| {
                let copies = (talk.ledger.sent - sent_before) * talk.copies_per_message;
                Ok(talk.ledger.is_complete() && talk.copies - copies_before >= copies)
            },
        )?;
        self.ledger.verdict()?;
        let copies = (self.ledger.sent - sent_before) * self.copies_per_message;
        if self.copies - copies_before != copies {
            let text = format!(
                "{} copies came, {copies} were due",
                self.copies - copies_before
            );
            return Err(Failure::Delivery(text).into());
        }
        Ok((received, used))
    }

    fn run_for(&mut self, crowd: &mut Crowd, seconds: f64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            crowd.turn(self, left.min(Duration::from_millis(100)))?;
        }
        Ok(())
    }

    fn write(&mut self, index: usize, out: &mut Vec<u8>) {
        let template = self
            .template
            .as_ref()
            .expect("made before the first message");
        self.ledger.write(template, index, partner(index), out);
    }
}

impl Workload for Talk {
    fn stanza(
        &mut self,
        index: usize,
        _session: &mut Session,
        stanza: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let attribute = |name| framing::attribute(stanza, name).unwrap_or_default();
        match framing::name(stanza) {
            b"iq" if attribute(b"id") == b"carbons" => {
                ensure!(
                    attribute(b"type") == b"result",
                    "no carbons: {}",
                    crate::login::readable(stanza)
                );
                self.enabled += 1;
            }
            b"message" if framing::mentions(stanza, NAMESPACE) => {
                ensure!(index >= self.users, "a copy for one who has the message");
                self.copies += 1;
            }
            b"message" if index < self.users => {
                let is_new = self.ledger.arrived(partner(index), stanza)?;
                if is_new && self.is_on {
                    self.write(index, out);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
