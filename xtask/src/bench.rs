//! `cargo xtask bench`: this server, a bare relay (the floor) and Debian's ejabberd and Prosody, measured by the load
//! generator of the crate `tests`; one table with what each figure has to reach and the ratios.
//!
//! Each server has one core to itself and the generator another; of CPU figures the medians of interleaved rounds count.
mod servers;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::servers::{Bench, Meerkat, Peer, Server};
use self::table::{Figures, Owner};
use crate::run;

const USAGE: &str = "\
cargo xtask bench [--quick] [--write] [--rounds N] [--only GROUP,…] [--no-peers] [--cores SERVER,GENERATOR]

  --quick     few sessions, short windows: to see that everything works, not to publish
  --write     put the table into docs/benchmarks.md
  --rounds N  how often CPU figures are taken (5; medians count)
  --only      of idle, messages, login, burst, slow, presence, carbons, scrape, modules, websocket, allocations;
              several with commas
  --no-peers  leave ejabberd and Prosody out
  --cores     which cores are used (0,1)";

/// What can be left out with `--only`.
const GROUPS: [&str; 11] = [
    "idle",
    "messages",
    "login",
    "burst",
    "slow",
    "presence",
    "carbons",
    "scrape",
    "modules",
    "websocket",
    "allocations",
];
/// Users who see each other's presence, and how many contacts each of them has.
const PRESENCE_USERS: &str = "500";
const PRESENCE_CONTACTS: &str = "20";
/// Users who talk with carbons; each has three clients.
const CARBONS_USERS: &str = "500";
/// Sessions that talk.
const TALKERS: u32 = 1_000;
/// Logins under way at a time.
const LOGINS_IN_FLIGHT: u32 = 50;
/// Messages under way per session, one row each.
const IN_FLIGHT: &str = "1,8";
/// Percentage of its core above which the generator rests; it refuses rows above 90.
const REST_ABOVE: &str = "88";
/// The same where readers stop: what it sends them comes in bursts.
const SLOW_REST_ABOVE: &str = "60";
/// Sessions logged in before memory is first looked at.
const WARM_UP_SESSIONS: u32 = 100;
/// The test that counts allocations prints lines that begin so, then `name=value` pairs.
const ALLOCATIONS_TEST: &str = "allocations_per_routed_message";
const ALLOCATIONS_LINE: &str = "allocations per routed message:";

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench:begin, written by `cargo xtask bench --write` -->";
const END: &str = "<!-- bench:end -->";

/// How much is measured.
struct Size {
    rounds: u32,
    peer_rounds: u32,
    seconds: &'static str,
    warm_up_seconds: &'static str,
    /// Long enough for what a peer collects late.
    peer_warm_up_seconds: &'static str,
    settle_seconds: &'static str,
    idle_sessions: u32,
    logins: u32,
    burst_sessions: u32,
    scrape_sessions: u32,
}

const FULL: Size = Size {
    rounds: 5,
    peer_rounds: 3,
    seconds: "5",
    warm_up_seconds: "1",
    peer_warm_up_seconds: "3",
    settle_seconds: "10",
    idle_sessions: 10_000,
    logins: 10_000,
    burst_sessions: 8_000,
    // With the files beside them just below 20,000, which is as much as some machines allow.
    scrape_sessions: 19_000,
};

const QUICK: Size = Size {
    rounds: 1,
    peer_rounds: 1,
    seconds: "1.5",
    warm_up_seconds: "0.5",
    peer_warm_up_seconds: "1",
    settle_seconds: "10",
    idle_sessions: 1_000,
    logins: 1_000,
    burst_sessions: 1_000,
    scrape_sessions: 1_000,
};

struct Options {
    size: Size,
    is_quick: bool,
    writes: bool,
    with_peers: bool,
    groups: Vec<String>,
    server_core: String,
    generator_core: String,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = parse(args)?;
    run::check(run::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "server",
        "--bins",
        "--package",
        "tests",
        "--bin",
        "load",
        "--bin",
        "relay",
    ]))?;
    let bench = Bench::new(&options.server_core, &options.generator_core)?;
    let mut figures = Figures::default();
    measure_ours(&bench, &options, &mut figures)?;
    if options.with_peers {
        for peer in [Peer::Ejabberd, Peer::Prosody] {
            match peer.version() {
                Some(version) => {
                    figures.name(Owner::Peer(peer), format!("{} {version}", peer.name()));
                    let measured = measure_peer(&bench, &options, peer, &mut figures);
                    figures.note_failure(&format!("{} measured", peer.name()), measured);
                }
                None => println!(
                    "{0} is not installed: skipped (apt-get install {0})",
                    peer.package()
                ),
            }
        }
    }
    if has_group(&options, "allocations") {
        count_allocations(&mut figures);
    }
    let table = figures.table();
    let facts = facts(&options, &figures);
    println!("\n{table}\n{facts}");
    if options.writes {
        ensure!(
            !figures.has_failures(),
            "nothing written: some rows could not be measured, see above"
        );
        write_page(&run::root().join(PAGE), &format!("{table}\n{facts}"))?;
        println!("written to {PAGE}");
    }
    ensure!(
        !figures.has_failures(),
        "some rows could not be measured, see above"
    );
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let mut options = Options {
        size: if is_quick { QUICK } else { FULL },
        is_quick,
        writes: false,
        with_peers: true,
        groups: GROUPS.map(str::to_owned).to_vec(),
        server_core: "0".to_owned(),
        generator_core: "1".to_owned(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .with_context(|| format!("{arg} needs a value\n\n{USAGE}"))
        };
        match arg.as_str() {
            "--quick" => {}
            "--write" => options.writes = true,
            "--no-peers" => options.with_peers = false,
            "--rounds" => {
                options.size.rounds = value()?.parse().context("--rounds")?;
                ensure!(
                    (1..=100).contains(&options.size.rounds),
                    "--rounds is 1 to 100"
                );
            }
            "--only" => {
                options.groups = value()?.split(',').map(str::to_owned).collect();
                if let Some(unknown) = options
                    .groups
                    .iter()
                    .find(|group| !GROUPS.contains(&group.as_str()))
                {
                    bail!(
                        "there is no group {unknown:?}; groups are {}",
                        GROUPS.join(", ")
                    );
                }
            }
            "--cores" => {
                let (server, generator) = value()?
                    .split_once(',')
                    .context("--cores needs two numbers, as in 0,1")?;
                ensure!(
                    server != generator,
                    "the server and the generator need a core each"
                );
                (options.server_core, options.generator_core) = (server.into(), generator.into());
            }
            unknown => bail!("unknown option {unknown}\n\n{USAGE}"),
        }
    }
    ensure!(
        !options.writes || !options.is_quick && options.groups.len() == GROUPS.len(),
        "--write publishes whole tables only: without --quick and --only"
    );
    Ok(options)
}

fn has_group(options: &Options, name: &str) -> bool {
    options.groups.iter().any(|group| group == name)
}

/// Whether a connection is encrypted or otherwise not plain TCP, for the keys of figures.
#[derive(Clone, Copy)]
enum Security {
    Plain,
    Tls,
    /// Without TLS.
    WebSocket,
}

impl Security {
    const ALL: [Self; 2] = [Self::Plain, Self::Tls];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
        }
    }
}

fn measure_ours(bench: &Bench, options: &Options, figures: &mut Figures) -> Result<()> {
    let size = &options.size;
    let mut accounts = size.idle_sessions.max(size.burst_sessions);
    if has_group(options, "scrape") {
        accounts = accounts.max(size.scrape_sessions);
    }
    let accounts = accounts + WARM_UP_SESSIONS;
    println!("making {accounts} accounts …");
    bench.import_accounts(accounts)?;
    // Memory first, each row on a server that has done nothing else.
    measure_memory(bench, options, figures)?;
    let relay = bench.start_relay()?;
    let server = bench.start_meerkat(Meerkat::Core)?;
    let with_modules = start_for(bench, options, &["modules", "carbons"], Meerkat::Modules)?;
    let with_web = start_for(bench, options, &["websocket"], Meerkat::Web)?;
    for round in 1..=size.rounds {
        println!("round {round} of {}", size.rounds);
        if has_group(options, "messages") {
            let measured = talk_round(bench, options, &relay, &server, figures);
            figures.note_failure("messages", measured);
        }
        if has_group(options, "login") {
            login_round(bench, options, &relay, &server, figures);
        }
        if has_group(options, "presence") {
            let measured = presence(bench, &server, Owner::Meerkat, figures);
            figures.note_failure("presence", measured);
        }
        if let Some(server) = &with_modules {
            modules_round(bench, options, server, figures);
        }
        if let Some(server) = &with_web {
            let message = ("message", Security::WebSocket, &[][..]);
            let warm_up = size.warm_up_seconds;
            let measured = talk(
                bench,
                options,
                server,
                Owner::Meerkat,
                message,
                warm_up,
                figures,
            );
            figures.note_failure("messages over WebSocket", measured);
        }
    }
    Ok(())
}

/// A node of this kind, if one of the groups is asked for.
fn start_for(
    bench: &Bench,
    options: &Options,
    groups: &[&str],
    kind: Meerkat,
) -> Result<Option<Server>> {
    let is_wanted = groups.iter().any(|group| has_group(options, group));
    is_wanted.then(|| bench.start_meerkat(kind)).transpose()
}

fn measure_memory(bench: &Bench, options: &Options, figures: &mut Figures) -> Result<()> {
    use Security::{Plain, WebSocket};
    let ours = Owner::Meerkat;
    if has_group(options, "idle") {
        let relay = bench.start_relay()?;
        let measured = idle(bench, options, &relay, Owner::Relay, ("", Plain), figures);
        figures.note_failure("idle sessions of the relay", measured);
        drop(relay);
        for security in Security::ALL {
            let server = bench.start_meerkat(Meerkat::Core)?;
            let measured = idle(bench, options, &server, ours, ("", security), figures);
            figures.note_failure("idle sessions of Meerkat", measured);
        }
    }
    if let Some(server) = start_for(bench, options, &["websocket"], Meerkat::Web)? {
        let measured = idle(bench, options, &server, ours, ("", WebSocket), figures);
        figures.note_failure("idle sessions over WebSocket", measured);
    }
    if let Some(server) = start_for(bench, options, &["modules"], Meerkat::Modules)? {
        let measured = idle(bench, options, &server, ours, ("modules ", Plain), figures);
        figures.note_failure("idle sessions with all modules", measured);
    }
    if let Some(server) = start_for(bench, options, &["scrape"], Meerkat::Modules)? {
        let measured = scrape(bench, options, &server, figures);
        figures.note_failure("a scrape", measured);
    }
    if let Some(server) = start_for(bench, options, &["burst"], Meerkat::Core)? {
        let measured = burst(bench, options, &server, figures);
        figures.note_failure("the burst", measured);
    }
    if let Some(server) = start_for(bench, options, &["slow"], Meerkat::Core)? {
        let measured = slow(bench, options, &server, figures);
        figures.note_failure("stalled readers", measured);
    }
    Ok(())
}

/// One round of logins.
fn login_round(
    bench: &Bench,
    options: &Options,
    relay: &Server,
    server: &Server,
    figures: &mut Figures,
) {
    let plain = ("", Security::Plain);
    let measured = login(bench, options, relay, Owner::Relay, plain, figures);
    figures.note_failure("logins at the relay", measured);
    for security in Security::ALL {
        let way = ("", security);
        let measured = login(bench, options, server, Owner::Meerkat, way, figures);
        figures.note_failure("logins of Meerkat", measured);
    }
}

/// One round of what is measured with all modules on.
fn modules_round(bench: &Bench, options: &Options, server: &Server, figures: &mut Figures) {
    let ours = Owner::Meerkat;
    if has_group(options, "modules") {
        let message = ("modules message", Security::Plain, &[][..]);
        let warm_up = options.size.warm_up_seconds;
        let measured = talk(bench, options, server, ours, message, warm_up, figures);
        figures.note_failure("messages with all modules", measured);
        let way = ("modules ", Security::Plain);
        let measured = login(bench, options, server, ours, way, figures);
        figures.note_failure("logins with all modules", measured);
    }
    if has_group(options, "carbons") {
        let measured = carbons(bench, options, server, figures);
        figures.note_failure("carbons", measured);
    }
}

/// One round of messages, everything that is compared side by side in time.
fn talk_round(
    bench: &Bench,
    options: &Options,
    relay: &Server,
    server: &Server,
    figures: &mut Figures,
) -> Result<()> {
    use Security::{Plain, Tls};
    let warm_up = options.size.warm_up_seconds;
    talk(
        bench,
        options,
        relay,
        Owner::Relay,
        ("message", Plain, &[]),
        warm_up,
        figures,
    )?;
    talk(
        bench,
        options,
        server,
        Owner::Meerkat,
        ("message", Plain, &[]),
        warm_up,
        figures,
    )?;
    talk(
        bench,
        options,
        server,
        Owner::Meerkat,
        ("message", Tls, &[]),
        warm_up,
        figures,
    )?;
    let settled = ["--settled", "--ask", "waiting"];
    talk(
        bench,
        options,
        server,
        Owner::Meerkat,
        ("settled", Plain, &settled),
        warm_up,
        figures,
    )
}

fn measure_peer(bench: &Bench, options: &Options, peer: Peer, figures: &mut Figures) -> Result<()> {
    let owner = Owner::Peer(peer);
    let accounts = (options.size.idle_sessions + WARM_UP_SESSIONS).max(TALKERS);
    println!("{}: registering {accounts} accounts …", peer.name());
    bench.register_accounts(peer, accounts)?;
    if has_group(options, "idle") {
        for security in Security::ALL {
            let server = bench.start_peer(peer)?;
            idle(bench, options, &server, owner, ("", security), figures)?;
        }
    }
    let server = bench.start_peer(peer)?;
    for _ in 0..options.size.peer_rounds {
        for security in Security::ALL {
            if has_group(options, "messages") {
                let warm_up = options.size.peer_warm_up_seconds;
                talk(
                    bench,
                    options,
                    &server,
                    owner,
                    ("message", security, &[]),
                    warm_up,
                    figures,
                )?;
            }
            if has_group(options, "login") {
                login(bench, options, &server, owner, ("", security), figures)?;
            }
        }
        if has_group(options, "presence") {
            presence(bench, &server, owner, figures)?;
        }
    }
    Ok(())
}

fn idle(
    bench: &Bench,
    options: &Options,
    server: &Server,
    owner: Owner,
    (kind, security): (&str, Security),
    figures: &mut Figures,
) -> Result<()> {
    let sessions = options.size.idle_sessions.to_string();
    let warm_up = WARM_UP_SESSIONS.to_string();
    let rows = bench.load(
        server,
        security,
        &[
            "idle",
            "--sessions",
            &sessions,
            "--warm-up",
            &warm_up,
            "--settle-s",
            options.size.settle_seconds,
        ],
    )?;
    for row in &rows {
        let bytes = row.figure("bytes_per_session")?;
        let key = format!("{kind}idle {}", security.name());
        figures.add(owner, &key, bytes / 1000.0);
    }
    Ok(())
}

/// Messages between pairs; `kind` is the first word of the figures' keys, with the generator's options for it.
fn talk(
    bench: &Bench,
    options: &Options,
    server: &Server,
    owner: Owner,
    (kind, security, extra): (&str, Security, &[&str]),
    warm_up: &str,
    figures: &mut Figures,
) -> Result<()> {
    let sessions = TALKERS.to_string();
    let mut args = vec![
        "--rest-above",
        REST_ABOVE,
        "messages",
        "--sessions",
        &sessions,
        "--in-flight",
        IN_FLIGHT,
        "--seconds",
        options.size.seconds,
        "--warm-up-s",
        warm_up,
    ];
    args.extend(extra);
    for row in &bench.load(server, security, &args)? {
        let key = format!("{kind} {} {}", security.name(), row.figure("in_flight")?);
        figures.add(owner, &key, row.figure("server_cpu_us")?);
        figures.see_waiting(row.figure("own_wait_percent")?);
    }
    Ok(())
}

fn login(
    bench: &Bench,
    options: &Options,
    server: &Server,
    owner: Owner,
    (kind, security): (&str, Security),
    figures: &mut Figures,
) -> Result<()> {
    let (accounts, in_flight) = (TALKERS.to_string(), LOGINS_IN_FLIGHT.to_string());
    let logins = options.size.logins.to_string();
    let rows = bench.load(
        server,
        security,
        &[
            "--rest-above",
            REST_ABOVE,
            "--logins-in-flight",
            &in_flight,
            "login",
            "--sessions",
            &accounts,
            "--logins",
            &logins,
        ],
    )?;
    for row in &rows {
        let key = format!("{kind}login {}", security.name());
        figures.add(owner, &key, row.figure("server_cpu_us")?);
        figures.see_waiting(row.figure("own_wait_percent")?);
    }
    Ok(())
}

fn presence(bench: &Bench, server: &Server, owner: Owner, figures: &mut Figures) -> Result<()> {
    let args = ["--rest-above", REST_ABOVE, "presence", "--sessions"];
    let crowd = [PRESENCE_USERS, "--contacts", PRESENCE_CONTACTS];
    for row in &bench.load(server, Security::Plain, &[&args[..], &crowd].concat())? {
        figures.add(owner, "presence", row.figure("server_cpu_us")?);
        figures.see_waiting(row.figure("own_wait_percent")?);
    }
    Ok(())
}

fn carbons(bench: &Bench, options: &Options, server: &Server, figures: &mut Figures) -> Result<()> {
    let args = [
        "--rest-above",
        REST_ABOVE,
        "carbons",
        "--sessions",
        CARBONS_USERS,
        "--seconds",
        options.size.seconds,
        "--warm-up-s",
        options.size.warm_up_seconds,
    ];
    for row in &bench.load(server, Security::Plain, &args)? {
        figures.add(Owner::Meerkat, "carbons", row.figure("copy_to_message")?);
        figures.see_waiting(row.figure("own_wait_percent")?);
        println!(
            "  a message {} µs, a copy {} µs",
            row.figure("message_us")?,
            row.figure("copy_us")?
        );
    }
    Ok(())
}

/// How long a scraper waits while very many sessions are idle.
fn scrape(bench: &Bench, options: &Options, server: &Server, figures: &mut Figures) -> Result<()> {
    let sessions = options.size.scrape_sessions.to_string();
    let metrics = server.metrics()?.to_string();
    let args = [
        "idle",
        "--sessions",
        &sessions,
        "--settle-s",
        options.size.settle_seconds,
        "--scrape",
        &metrics,
    ];
    for row in &bench.load(server, Security::Plain, &args)? {
        figures.add(Owner::Meerkat, "scrape time", row.figure("scrape_ms")?);
        figures.add(Owner::Meerkat, "scrape series", row.figure("series")?);
    }
    Ok(())
}

fn burst(bench: &Bench, options: &Options, server: &Server, figures: &mut Figures) -> Result<()> {
    let sessions = options.size.burst_sessions.to_string();
    let settle = options.size.settle_seconds;
    let args = ["burst", "--sessions", &sessions, "--settle-s", settle];
    for row in &bench.load(server, Security::Plain, &args)? {
        figures.add(Owner::Meerkat, "burst", row.figure("after_to_idle")?);
    }
    Ok(())
}

fn slow(bench: &Bench, options: &Options, server: &Server, figures: &mut Figures) -> Result<()> {
    let args = [
        "slow",
        "--settle-s",
        options.size.settle_seconds,
        "--rest-above",
        SLOW_REST_ABOVE,
    ];
    for row in &bench.load(server, Security::Plain, &args)? {
        figures.add(Owner::Meerkat, "slow", row.figure("kib_together")?);
        println!(
            "  others meanwhile: worst round trip {} ms, 99 of 100 within {} µs",
            row.figure("others_worst_ms")?,
            row.figure("others_p99_us")?
        );
    }
    Ok(())
}

/// Takes the counts that a test of the server prints; without such a test the rows stay empty.
fn count_allocations(figures: &mut Figures) {
    let output = run::output(run::cargo().args([
        "test",
        "--locked",
        "--package",
        "server",
        "--",
        "--nocapture",
        ALLOCATIONS_TEST,
    ]));
    let output = match output {
        Ok(output) => output,
        Err(error) => return figures.note_failure("allocations", Err(error)),
    };
    for (name, count) in parse_allocations(&output) {
        figures.add(Owner::Meerkat, &format!("allocations {name}"), count);
    }
}

fn parse_allocations(output: &str) -> Vec<(String, f64)> {
    let lines = output
        .lines()
        .filter_map(|line| line.split_once(ALLOCATIONS_LINE));
    let pairs = lines.flat_map(|(_, pairs)| pairs.split_whitespace());
    pairs
        .filter_map(|pair| {
            let (name, count) = pair.split_once('=')?;
            Some((name.to_owned(), count.parse().ok()?))
        })
        .collect()
}

/// Where, when and how the table was made.
fn facts(options: &Options, figures: &Figures) -> String {
    let word = |file: &str| {
        fs::read_to_string(file)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpu = word("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let said = |command: &mut std::process::Command| {
        run::output(command).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let date = said(run::command("date").args(["-u", "+%F"]));
    let commit = said(run::command("git").args(["describe", "--always", "--dirty"]));
    let rounds = match options.size.rounds {
        1 => "One round".to_owned(),
        rounds => format!("Medians of {rounds} interleaved rounds"),
    };
    let mut text = format!(
        "{date}, commit {commit}; {cores} cores ({}), Linux {}; server on core {}, generator on core {}.\n\
         {rounds} for CPU, one measurement for memory. \
         Made by `cargo xtask bench{}`.\n",
        cpu.map_or("unknown", |(_, model)| model),
        word("/proc/sys/kernel/osrelease"),
        options.server_core,
        options.generator_core,
        if options.is_quick { " --quick" } else { "" },
    );
    if figures.waiting_percent() > 5.0 {
        text.push_str(&format!(
            "Other programs took the generator's core for up to {:.0} % of the time: CPU figures are too high.\n",
            figures.waiting_percent()
        ));
    }
    text
}

/// Replaces what stands between the markers.
fn write_page(path: &Path, table: &str) -> Result<()> {
    let page =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(path, with_table(&page, table)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn with_table(page: &str, table: &str) -> Result<String> {
    let start = page
        .find(BEGIN)
        .with_context(|| format!("the page has no line `{BEGIN}`"))?
        + BEGIN.len();
    let end = page
        .find(END)
        .with_context(|| format!("the page has no line `{END}`"))?;
    ensure!(start <= end, "the markers stand in the wrong order");
    Ok(format!(
        "{}\n{}\n{}",
        &page[..start],
        table.trim_end(),
        &page[end..]
    ))
}

/// How long a server may take to start; ejabberd takes some seconds.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A folder of the build directory for all that a run makes; emptied as the next run starts.
fn scratch() -> Result<PathBuf> {
    let path = run::target_dir().join("bench");
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    path.canonicalize().context("the build directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_mistakes_named() {
        let parse = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            super::parse(&args)
        };
        let options = parse("--quick --rounds 3 --only idle,login --cores 2,5").unwrap();
        assert!(options.is_quick && !options.writes && options.with_peers);
        assert!(parse("--write --no-peers").unwrap().writes);
        assert_eq!(
            (options.size.rounds, options.size.idle_sessions),
            (3, QUICK.idle_sessions)
        );
        assert_eq!(
            (
                options.server_core.as_str(),
                options.generator_core.as_str()
            ),
            ("2", "5")
        );
        assert!(has_group(&options, "login") && !has_group(&options, "slow"));
        for (line, expected) in [
            ("--only idle,speed", "there is no group \"speed\""),
            ("--write --quick", "whole tables only"),
            ("--write --only idle", "whole tables only"),
            ("--rounds 0", "--rounds is 1 to 100"),
            ("--cores 1,1", "a core each"),
            ("--rounds", "--rounds needs a value"),
            ("--fast", "unknown option --fast"),
        ] {
            let error = parse(line)
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let page = format!("# Page\n\n{BEGIN}\nold\n{END}\nafter\n");
        let once = with_table(&page, "| new |\n").unwrap();
        assert_eq!(once, format!("# Page\n\n{BEGIN}\n| new |\n{END}\nafter\n"));
        assert_eq!(with_table(&once, "| new |").unwrap(), once);
        assert!(with_table("# Page", "x").is_err());
        let page = fs::read_to_string(run::root().join(PAGE)).unwrap();
        with_table(&page, "x").unwrap();
    }

    #[test]
    fn allocations_are_found_in_a_tests_output() {
        let output =
            "running 1 test\nallocations per routed message: plain=5.0 tls=8 sm=7.25\nok\n";
        let expected = [("plain", 5.0), ("tls", 8.0), ("sm", 7.25)];
        assert_eq!(
            parse_allocations(output),
            expected.map(|(name, count)| (name.to_owned(), count))
        );
        assert_eq!(parse_allocations("running 0 tests"), []);
    }
}
