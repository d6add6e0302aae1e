//! Memory after a burst: each session gets messages that it does not acknowledge (XEP-0198), so that the
//! server must keep them; then all is acknowledged, and memory should come back.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::idle::Acquainted;
use super::numbered::Template;
use crate::crowd::Crowd;
use crate::login::Goal;
use crate::measure::{Server, Window};
use crate::options::{Burst, Common};
use crate::report::{Report, Row};

pub(crate) fn run(common: &Common, row: &Burst) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    ensure!(server.is_observed(), "the burst row needs --server-pid");
    let sessions = (row.crowd.sessions & !1).max(2);
    let settle = Duration::from_secs(row.settling.settle_s);
    let goal = Goal::Session {
        stream_management: true,
    };
    let mut crowd = Crowd::new(common, common.plan(goal), sessions)?;
    let mut pairs = Acquainted::new(sessions as usize);
    pairs.meet(&mut crowd, common, row.message, 0..sessions as usize)?;
    crowd.keys.save()?;
    crowd.turn_for(&mut pairs, settle)?;
    let idle = server.user_memory_bytes()?;

    crowd
        .sessions
        .iter_mut()
        .for_each(|session| session.sm.withhold = true);
    let template = Template::new(&crowd, common.first, row.message, "chat");
    for _ in 0..row.per_session {
        for index in 0..sessions as usize {
            pairs.say(&mut crowd, &template, index)?;
        }
    }
    crowd.turn_until(&mut pairs, "receiving the burst", |_, pairs| {
        Ok(pairs.ledger.is_complete())
    })?;
    let peak = server.user_memory_bytes()?;
    pairs.ledger.verdict()?;

    for index in 0..sessions as usize {
        crowd.stop_withholding(index)?;
        crowd.turn(&mut pairs, Duration::ZERO)?;
    }
    let window = Window::open(&server)?;
    crowd.turn_for(&mut pairs, settle)?;
    let after = server.user_memory_bytes()?;
    let used = window.close()?;
    crowd.close_all()?;
    let mib = |bytes: u64| Some(bytes as f64 / f64::from(1 << 20));
    let line = Row::new("burst")
        .with("tls", common.tls.name())
        .with("sessions", sessions)
        .with("per_session", row.per_session)
        .with("settle_s", row.settling.settle_s)
        .figure("idle_mib", mib(idle), 1)
        .figure("peak_mib", mib(peak), 1)
        .figure("after_mib", mib(after), 1)
        .figure("after_to_idle", Some(after as f64 / idle as f64), 2);
    Report::new(common.json).print(line, &used)
}
