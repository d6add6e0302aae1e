//! User memory of the server per idle session: logged in, presence sent, one message each way, then rest.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::numbered::{Ledger, Template, partner};
use crate::crowd::{Crowd, Session, Workload};
use crate::framing;
use crate::login::Goal;
use crate::measure::{Server, Window};
use crate::options::{Common, Idle, Message};
use crate::report::{Report, Row};

pub(crate) fn run(common: &Common, row: &Idle) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    ensure!(server.is_observed(), "the idle row needs --server-pid");
    let (warm_up, sessions) = (row.settling.warm_up & !1, row.crowd.sessions & !1);
    let settle = Duration::from_secs(row.settling.settle_s);
    let goal = Goal::Session {
        stream_management: row.sm,
    };
    let mut crowd = Crowd::new(common, common.plan(goal), warm_up + sessions)?;
    let mut acquainted = Acquainted::new((warm_up + sessions) as usize);
    acquainted.meet(&mut crowd, common, row.message, 0..warm_up as usize)?;
    crowd.turn_for(&mut acquainted, settle)?;
    let before = server.user_memory_bytes()?;
    let all = (warm_up + sessions) as usize;
    acquainted.meet(&mut crowd, common, row.message, warm_up as usize..all)?;
    crowd.keys.save()?;
    let window = Window::open(&server)?;
    crowd.turn_for(&mut acquainted, settle)?;
    let after = server.user_memory_bytes()?;
    let used = window.close()?;
    let scraped = row.scrape.map(scrape).transpose()?;
    acquainted.ledger.verdict()?;
    crowd.close_all()?;
    let per_session = (after as f64 - before as f64) / f64::from(sessions);
    let line = Row::new("idle")
        .with("tls", common.tls.name())
        .with("sm", row.sm)
        .with("sessions", sessions)
        .figure("bytes_per_session", Some(per_session), 0)
        .figure("before_kib", Some(before as f64 / 1024.0), 0)
        .figure("after_kib", Some(after as f64 / 1024.0), 0);
    let line = match scraped {
        Some(Scraped { time, series }) => line
            .figure("scrape_ms", Some(time.as_secs_f64() * 1e3), 2)
            .with("series", series),
        None => line,
    };
    Report::new(common.json).print(line, &used)
}

/// Scrapes whose median counts.
const SCRAPES: usize = 9;
/// More than any answer has, in bytes.
const SCRAPE_BYTES_MAX: u64 = 64 << 20;
/// Longer than any answer takes.
const SCRAPE_TIME_MAX: Duration = Duration::from_secs(30);

/// What a scraper sees.
struct Scraped {
    time: Duration,
    series: usize,
}

/// Asks for the metrics as Prometheus does, each time on a connection of its own.
fn scrape(address: SocketAddr) -> Result<Scraped> {
    let mut times = Vec::with_capacity(SCRAPES);
    let mut page = String::new();
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, SCRAPE_TIME_MAX)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(SCRAPE_TIME_MAX))?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        page.clear();
        stream.take(SCRAPE_BYTES_MAX).read_to_string(&mut page)?;
        times.push(began.elapsed());
    }
    ensure!(
        page.starts_with("HTTP/1.1 200 "),
        "no metrics: {}",
        page.lines().next().unwrap_or_default()
    );
    let (_, body) = page.split_once("\r\n\r\n").unwrap_or_default();
    let is_series = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphabetic());
    times.sort_unstable();
    Ok(Scraped {
        time: times[SCRAPES / 2],
        series: body.lines().filter(is_series).count(),
    })
}

/// Pairs that have each sent and received one message.
pub(crate) struct Acquainted {
    pub(crate) ledger: Ledger,
}

impl Acquainted {
    pub(crate) fn new(sessions: usize) -> Self {
        Self {
            ledger: Ledger::new(sessions),
        }
    }

    /// Logs in the sessions of an even range and lets each send one message to its partner.
    pub(crate) fn meet(
        &mut self,
        crowd: &mut Crowd,
        common: &Common,
        message: Message,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        crowd.log_in(self, range.clone(), common.first, common.logins_in_flight)?;
        let template = Template::new(crowd, common.first, message, "chat");
        for index in range {
            self.say(crowd, &template, index)?;
        }
        crowd.turn_until(self, "waiting for the first messages", |_, met| {
            Ok(met.ledger.is_complete())
        })
    }

    /// One message from `index` to its partner; reads what is there meanwhile.
    pub(crate) fn say(
        &mut self,
        crowd: &mut Crowd,
        template: &Template,
        index: usize,
    ) -> Result<()> {
        let ledger = &mut self.ledger;
        crowd.send(index, |session, out| {
            ledger.write(template, index, partner(index), out);
            session.sm.sent = session.sm.sent.wrapping_add(1);
            session.sm.ask(out);
        })?;
        crowd.turn(self, Duration::ZERO)
    }
}

impl Workload for Acquainted {
    fn stanza(
        &mut self,
        index: usize,
        _session: &mut Session,
        stanza: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<()> {
        if framing::name(stanza) == b"message" {
            self.ledger.arrived(partner(index), stanza)?;
        }
        Ok(())
    }
}
