//! Logins per second and the server's CPU per login; also registrations, which go the same way.

use anyhow::{Result, ensure};

use crate::crowd::{Crowd, Session, Workload};
use crate::login::Goal;
use crate::measure::{Server, Window};
use crate::options::{Common, Crowded, Login};
use crate::report::{Report, Row};

pub(crate) fn run(common: &Common, row: &Login) -> Result<()> {
    let accounts = row.crowd.sessions;
    ensure!(
        accounts >= common.logins_in_flight,
        "an account would meet itself: --sessions must be at least --logins-in-flight"
    );
    let server = Server::find(&common.server_pid)?;
    let slots = common.logins_in_flight;
    let mut crowd = Crowd::new(common, common.plan(Goal::LoginAndClose), slots)?;
    // Once through all accounts: the server's caches and our keys are warm.
    run_through(&mut crowd, common.first, accounts, accounts)?;
    crowd.keys.save()?;
    let derived_before = crowd.keys.derived_count;
    crowd.restart_rest();
    let window = Window::open(&server)?;
    run_through(&mut crowd, common.first, accounts, row.logins)?;
    let used = window.close()?;
    let line = Row::new("login")
        .with("tls", common.tls.name())
        .with("mechanism", format!("{:?}", common.mechanism))
        .with("accounts", accounts)
        .with("in_flight", slots)
        .with("logins", row.logins)
        .used(&used, row.logins.into())
        .figure(
            "rested_percent",
            Some(crowd.rested().div_duration_f64(used.wall) * 100.0),
            1,
        )
        .with("keys_derived", crowd.keys.derived_count - derived_before);
    Report::new(common.json).print(line, &used)
}

pub(crate) fn register(common: &Common, accounts: Crowded) -> Result<()> {
    let slots = common.logins_in_flight.min(accounts.sessions);
    let mut crowd = Crowd::new(common, common.plan(Goal::Registration), slots)?;
    let server = Server::find(&common.server_pid)?;
    let window = Window::open(&server)?;
    run_through(
        &mut crowd,
        common.first,
        accounts.sessions,
        accounts.sessions,
    )?;
    let used = window.close()?;
    let line = Row::new("register")
        .with("tls", common.tls.name())
        .with("accounts", accounts.sessions)
        .used(&used, accounts.sessions.into());
    Report::new(common.json).print(line, &used)
}

/// Slots whose connection has ended.
struct Free(Vec<usize>);

impl Workload for Free {
    fn stanza(&mut self, _: usize, _: &mut Session, _: &[u8], _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn finished(&mut self, index: usize) {
        self.0.push(index);
    }
}

/// Takes `count` accounts by turns through the crowd's goal, all slots busy.
fn run_through(crowd: &mut Crowd, first: u32, accounts: u32, count: u32) -> Result<()> {
    let slots = crowd.sessions.len();
    let mut free = Free((0..slots).collect());
    let mut opened = 0;
    crowd.turn_until(&mut free, "logging in", |crowd, free| {
        while opened < count {
            let Some(slot) = free.0.pop() else { break };
            crowd.open(slot, first + opened % accounts, None)?;
            opened += 1;
        }
        Ok(opened == count && free.0.len() == slots)
    })
}
