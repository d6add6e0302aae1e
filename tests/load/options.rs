//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::login::{Account, Goal, Plan};

/// Load generator for XMPP servers over TCP: measures what a session, a login and a message cost.
///
/// Every row is checked: each message must arrive once and in order. No row is printed when the generator
/// itself used more than 90 % of a core while it was measured (exit code 4); lost, doubled or reordered
/// messages end the run with exit code 3.
#[derive(Debug, Parser)]
#[command(name = "load", max_term_width = 100)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) row: RowKind,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Address of the server's client listener.
    #[arg(long, global = true, default_value = "127.0.0.1:5222")]
    pub(crate) connect: SocketAddr,
    /// XMPP domain of the accounts.
    #[arg(long, global = true, default_value = "localhost")]
    pub(crate) domain: String,
    /// How connections are encrypted.
    #[arg(long, global = true, value_enum, default_value = "none")]
    pub(crate) tls: TlsMode,
    /// Speak over WebSocket (RFC 7395) at `/ws-xmpp`, without TLS or inside of it.
    #[arg(long, global = true)]
    pub(crate) websocket: bool,
    /// Accept any certificate. For measuring only.
    #[arg(long, global = true, conflicts_with = "ca")]
    pub(crate) insecure: bool,
    /// PEM file of the certificates to trust.
    #[arg(long, global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// SASL mechanism; `best` takes the first offered of the others.
    #[arg(long, global = true, value_enum, default_value = "best")]
    pub(crate) mechanism: Mechanism,
    /// Accounts are this prefix and six digits, from 000000.
    #[arg(long, global = true, default_value = "load")]
    pub(crate) users_prefix: String,
    /// Password of all accounts.
    #[arg(long, global = true, default_value = "load-secret")]
    pub(crate) password: String,
    /// Resource to bind.
    #[arg(long, global = true, default_value = "load")]
    pub(crate) resource: String,
    /// Number of the first account used.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) first: u32,
    /// File that keeps derived SCRAM keys from one run to the next.
    #[arg(long, global = true)]
    pub(crate) keys: Option<PathBuf>,
    /// Connections being logged in at a time.
    #[arg(long, global = true, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) logins_in_flight: u32,
    /// Connect from this many addresses 127.1.0.1, 127.1.0.2, … (loopback only); 1 leaves it to the kernel.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) sources: u8,
    /// A process of the server to observe, with all its descendants; may be given several times.
    #[arg(long, global = true)]
    pub(crate) server_pid: Vec<u32>,
    /// Rest when the generator's own CPU passes this percentage of a core: rates then show the generator's
    /// limit, the server's CPU per operation stays what it is.
    #[arg(long, global = true, value_parser = clap::value_parser!(u8).range(10..=90))]
    pub(crate) rest_above: Option<u8>,
    /// Give up when nothing at all has happened for so many seconds.
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) patience_s: u64,
    /// Print rows as JSON, one flat object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    None,
    Starttls,
    /// TLS from the first byte (XEP-0368).
    Direct,
}

impl TlsMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starttls => "starttls",
            Self::Direct => "direct",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mechanism {
    Best,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-1")]
    ScramSha1,
    Plain,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RowKind {
    /// Memory of the server per idle session: presence and one message each, then rest.
    Idle(Idle),
    /// CPU of the server per login and logins per second, presence and close included.
    Login(Login),
    /// CPU of the server per one-to-one message, rate and latency; every message is checked.
    Messages(Messages),
    /// Memory of the server some seconds after a burst, against idle memory.
    Burst(Burst),
    /// Memory for receivers that stop reading, the kernel's queue included, and what others notice of it.
    Slow(Slow),
    /// CPU of the server per copy of a presence change to contacts who all see each other.
    Presence(Presence),
    /// CPU of the server per message carbon (XEP-0280), against a message without.
    Carbons(Carbons),
    /// Make accounts by in-band registration (XEP-0077).
    Register(Crowded),
    /// Print accounts as lines `username,domain,password`.
    Accounts(Crowded),
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Crowded {
    /// How many sessions or accounts.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sessions: u32,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Settling {
    /// Seconds between the last traffic and a look at the server's memory.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) settle_s: u64,
    /// Sessions that are logged in before the first look, so that what the server allocates once is not
    /// counted to those that follow.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) warm_up: u32,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Length of a message as it is sent.
    #[arg(long, default_value_t = 242, value_parser = clap::value_parser!(u32).range(100..=65_536))]
    pub(crate) bytes: u32,
    /// Address the bare JID instead of the full one.
    #[arg(long)]
    pub(crate) to_bare: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    #[command(flatten)]
    pub(crate) settling: Settling,
    #[command(flatten)]
    pub(crate) message: Message,
    /// Stream management (XEP-0198) on each session.
    #[arg(long)]
    pub(crate) sm: bool,
    /// Ask this address for `/metrics` while all are idle, and print how long the answer takes.
    #[arg(long)]
    pub(crate) scrape: Option<SocketAddr>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Presence {
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    /// Contacts that each user has, in both directions; an even number.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub(crate) contacts: u32,
    /// How often all users change their presence. A server may hold back what comes too fast.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) waves: u32,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Carbons {
    /// Users; each has as many sessions as it has clients.
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    #[command(flatten)]
    pub(crate) message: Message,
    /// Clients of each user; one of them talks.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=10))]
    pub(crate) clients: u32,
    /// Seconds before each measuring window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up_s: f64,
    /// Seconds of each measuring window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Login {
    /// Accounts that log in by turns; each does so once before the measuring window.
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    /// Logins in the measuring window.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) logins: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Messages {
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    #[command(flatten)]
    pub(crate) message: Message,
    /// Messages each session has under way; several numbers give several rows.
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) in_flight: Vec<u32>,
    /// Seconds before the measuring window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up_s: f64,
    /// Seconds of the measuring window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Send this many messages per second one way, instead of answering each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,
    /// Stream management (XEP-0198); the server's requests for acks are answered.
    #[arg(long)]
    pub(crate) sm: bool,
    /// Send on only while the server's `h` leaves fewer than twice --in-flight uncovered: an answer may go out
    /// with the ack of what it answers, before the ack of one's own last message has come back the same way.
    /// Implies --sm.
    #[arg(long)]
    pub(crate) settled: bool,
    /// When to ask the server for an ack, never twice at a time.
    #[arg(long, value_enum, default_value = "each-write")]
    pub(crate) ask: Ask,
}

/// When a session with stream management sends `<r/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ask {
    /// With each write that has a message in it.
    EachWrite,
    /// Only when nothing can be sent before an ack has come: a server that volunteers its acks, riding on
    /// what it sends anyway, is asked for none.
    Waiting,
}

impl Ask {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EachWrite => "each-write",
            Self::Waiting => "waiting",
        }
    }
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Burst {
    #[command(flatten)]
    pub(crate) crowd: Crowded,
    #[command(flatten)]
    pub(crate) settling: Settling,
    #[command(flatten)]
    pub(crate) message: Message,
    /// Messages to each session while it acknowledges nothing.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) per_session: u32,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// Receivers that stop reading.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) stalled: u32,
    /// Sessions, in pairs, whose round trips are watched meanwhile.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) others: u32,
    /// KiB sent to each stalled receiver, unless the server closes it before.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(crate) push_kib: u32,
    /// KiB sent to each stalled receiver between two looks at the server's memory.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) step_kib: u32,
    /// Seconds of rest between the rehearsal, in which everybody reads, and the first look at the server's
    /// memory.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) settle_s: u64,
}

impl Common {
    pub(crate) fn plan(&self, goal: Goal) -> Plan {
        let account = Account {
            domain: self.domain.clone(),
            users_prefix: self.users_prefix.clone(),
            password: self.password.clone(),
            resource: self.resource.clone(),
        };
        Plan {
            account,
            tls: self.tls,
            mechanism: self.mechanism,
            goal,
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }

    /// Rules between options, and names that would need escaping.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.tls == TlsMode::None || self.insecure || self.ca.is_some(),
            "--tls needs --ca FILE, or --insecure to accept any certificate"
        );
        ensure!(
            self.sources == 1 || self.connect.ip().is_loopback() && self.connect.is_ipv4(),
            "--sources needs a server on 127.0.0.0/8"
        );
        for (option, value) in [
            ("--domain", &self.domain),
            ("--users-prefix", &self.users_prefix),
            ("--password", &self.password),
            ("--resource", &self.resource),
        ] {
            ensure!(
                !value.contains(['<', '>', '&', '\'', '"', '\n']),
                "{option} may not contain characters that XML escapes"
            );
        }
        Ok(())
    }
}
