//! Presence to contacts: everybody sees each change of a fixed number of others. The server's CPU per copy; every copy is
//! accounted for.
//!
//! Changes come in waves: all users change once, then all copies are waited for. Servers hold changes back that come too
//! fast, so there are few waves, each of many copies.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::crowd::{Crowd, Session, Workload};
use crate::framing;
use crate::login::Goal;
use crate::measure::{Server, Window};
use crate::options::{Common, Presence};
use crate::report::{Failure, Report, Row};

/// After the last subscription, until what it caused has been told.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn run(common: &Common, row: &Presence) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    let (users, contacts) = (row.crowd.sessions as usize, row.contacts as usize & !1);
    ensure!(
        contacts >= 2 && contacts < users,
        "--contacts has to be from 2 to one less than there are sessions"
    );
    let goal = Goal::Session {
        stream_management: false,
    };
    let mut crowd = Crowd::new(common, common.plan(goal), row.crowd.sessions)?;
    let mut town = Town::new(common, users, contacts);
    crowd.log_in(&mut town, 0..users, common.first, common.logins_in_flight)?;
    crowd.keys.save()?;
    town.befriend(&mut crowd)?;
    crowd.turn_for(&mut town, SETTLE)?;
    // What is allocated once is not counted.
    town.wave(&mut crowd)?;
    crowd.restart_rest();
    let window = Window::open(&server)?;
    for _ in 0..row.waves {
        town.wave(&mut crowd)?;
    }
    let used = window.close()?;
    crowd.close_all()?;
    let copies = u64::from(row.waves) * (users * contacts) as u64;
    let line = Row::new("presence")
        .with("tls", common.tls.name())
        .with("users", users)
        .with("contacts", contacts)
        .with("waves", row.waves)
        .with("copies", copies)
        .used(&used, copies);
    Report::new(common.json).print(line, &used)
}

/// Users on a ring; each one's contacts are the nearest on both sides.
struct Town {
    users: usize,
    contacts: usize,
    first: u32,
    prefix: String,
    domain: String,
    /// Contacts in both directions that each roster has, once it has come.
    rosters: Vec<Option<usize>>,
    approvals: usize,
    wave: u32,
    /// Copies of this wave that each has got.
    seen: Vec<usize>,
    copies: usize,
}

impl Town {
    fn new(common: &Common, users: usize, contacts: usize) -> Self {
        Self {
            users,
            contacts,
            first: common.first,
            prefix: common.users_prefix.clone(),
            domain: common.domain.clone(),
            rosters: vec![None; users],
            approvals: 0,
            wave: 0,
            seen: vec![0; users],
            copies: 0,
        }
    }

    fn address(&self, index: usize) -> String {
        let number = self.first as usize + index;
        format!("{}{number:06}@{}", self.prefix, self.domain)
    }

    /// The session whose user an address is of.
    fn index_of(&self, from: &[u8]) -> Option<usize> {
        let digits = from.strip_prefix(self.prefix.as_bytes())?.get(..6)?;
        let number: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        number.checked_sub(self.first as usize)
    }

    fn contacts_of(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let (users, half) = (self.users, self.contacts / 2);
        let after = (1..=half).map(move |step| (index + step) % users);
        let before = (1..=half).map(move |step| (index + users - step) % users);
        after.chain(before)
    }

    /// Sees to it that all are contacts of each other; an earlier run's subscriptions are still there.
    fn befriend(&mut self, crowd: &mut Crowd) -> Result<()> {
        for index in 0..self.users {
            crowd.send(index, |_, out| {
                out.extend_from_slice(
                    b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>",
                );
            })?;
            crowd.turn(self, Duration::ZERO)?;
        }
        crowd.turn_until(self, "reading rosters", |_, town| {
            Ok(town.rosters.iter().all(Option::is_some))
        })?;
        let known = self.rosters.clone();
        let mut wanted = 0;
        for (index, known) in known.into_iter().enumerate() {
            let known = known.unwrap_or_default();
            if known == self.contacts {
                continue;
            }
            ensure!(
                known == 0,
                "{} has {known} contacts already; take other accounts (--first)",
                self.address(index)
            );
            let requests: String = self
                .contacts_of(index)
                .map(|contact| {
                    format!(
                        "<presence type='subscribe' to='{}'/>",
                        self.address(contact)
                    )
                })
                .collect();
            wanted += self.contacts;
            crowd.send(index, |_, out| out.extend_from_slice(requests.as_bytes()))?;
            crowd.turn(self, Duration::ZERO)?;
        }
        crowd.turn_until(self, "subscribing", |_, town| Ok(town.approvals >= wanted))
    }

    /// All change their presence; returns when all have seen it of all their contacts, once each.
    fn wave(&mut self, crowd: &mut Crowd) -> Result<()> {
        self.wave += 1;
        self.copies = 0;
        self.seen.fill(0);
        let change = format!(
            "<presence><show>away</show><status>{}</status></presence>",
            status(self.wave)
        );
        for index in 0..self.users {
            crowd.send(index, |_, out| out.extend_from_slice(change.as_bytes()))?;
            crowd.turn(self, Duration::ZERO)?;
        }
        let all = self.users * self.contacts;
        crowd.turn_until(self, "waiting for presence", |_, town| {
            Ok(town.copies >= all)
        })?;
        match self.seen.iter().position(|seen| *seen != self.contacts) {
            None => Ok(()),
            Some(index) => {
                let text = format!(
                    "session {index} has got {} copies instead of {}",
                    self.seen[index], self.contacts
                );
                Err(Failure::Delivery(text).into())
            }
        }
    }

    fn presence(&mut self, index: usize, stanza: &[u8], out: &mut Vec<u8>) {
        let from = framing::attribute(stanza, b"from").unwrap_or_default();
        match framing::attribute(stanza, b"type") {
            Some(b"subscribe") => {
                let bare = from.split(|byte| *byte == b'/').next().unwrap_or_default();
                out.extend_from_slice(b"<presence type='subscribed' to='");
                out.extend_from_slice(bare);
                out.extend_from_slice(b"'/>");
            }
            Some(b"subscribed") => self.approvals += 1,
            None if framing::mentions(stanza, &status(self.wave))
                // One's own change comes back too.
                && self.index_of(from) != Some(index) =>
            {
                self.seen[index] += 1;
                self.copies += 1;
            }
            _ => {}
        }
    }
}

fn status(wave: u32) -> String {
    format!("wave {wave:08}")
}

impl Workload for Town {
    fn stanza(
        &mut self,
        index: usize,
        _session: &mut Session,
        stanza: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let attribute = |name| framing::attribute(stanza, name).unwrap_or_default();
        match (framing::name(stanza), attribute(b"type"), attribute(b"id")) {
            (b"presence", _, _) => self.presence(index, stanza, out),
            (b"iq", b"result", b"roster") => {
                self.rosters[index] = Some(framing::count(stanza, "\"both\"", "'both'"));
            }
            // A push of the roster.
            (b"iq", b"set", id) => {
                out.extend_from_slice(b"<iq type='result' id='");
                out.extend_from_slice(id);
                out.extend_from_slice(b"'/>");
            }
            (b"iq", b"error", _) => {
                ensure!(false, "refused: {}", crate::login::readable(stanza));
            }
            _ => {}
        }
        Ok(())
    }
}
