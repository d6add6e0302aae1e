//! What the machine has, compared at start with what the configuration wants.
//!
//! Nothing here stops a start: each finding is a warning with what is, what should be and what to do. [`Facts`] are read
//! first, [`compare`] decides and touches nothing.

mod facts;

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use facts::{Clock, Disk, Facts, Memory, TcpPages, disk};

/// What the daemon needs of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// TCP connections at the same time.
    pub connections: u64,
    /// Files and sockets open beside the connections: databases, logs, listeners.
    pub other_files: u64,
    /// The greatest `backlog` of a listener.
    pub backlog: u64,
    /// Where the daemon writes.
    pub directories: Vec<PathBuf>,
    /// Ports that it listens on; not those that the system chooses.
    pub ports: Vec<u16>,
}

impl Needs {
    fn open_files(&self) -> u64 {
        self.connections.saturating_add(self.other_files)
    }

    fn memory_bytes(&self) -> u64 {
        let connections = self.connections.saturating_mul(CONNECTION_BYTES);
        connections.saturating_add(BASE_BYTES)
    }
}

/// What an idle connection with TLS takes of the machine's memory: some 6 kB here, the rest for the kernel's socket.
pub const CONNECTION_BYTES: u64 = 16 * 1024;

/// What a daemon takes without connections: code, database caches, allocator, and room for what comes in a burst.
pub const BASE_BYTES: u64 = 128 * 1024 * 1024;

/// With less space than this on a disk that it writes to, a daemon warns: a database that cannot grow refuses writes.
pub const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;

/// With fewer free inodes than this a daemon warns: new files are refused although there is space.
pub const FREE_INODES_MIN: u64 = 10_000;

/// Pages that an idle connection takes of the kernel's memory for TCP at the most: one per direction. Past the third
/// number of `tcp_mem` the kernel drops what comes in.
pub const TCP_PAGES_PER_CONNECTION: u64 = 2;

/// Reads the facts of this machine and compares them.
pub fn run(needs: &Needs) -> Vec<Warning> {
    compare(&Facts::read(needs), needs)
}

/// One thing that falls short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub what: String,
    /// How it is here.
    pub found: String,
    /// How it should be.
    pub needed: String,
    /// What to do.
    pub mend: String,
}

impl Warning {
    fn new(
        what: impl Into<String>,
        found: impl fmt::Display,
        needed: impl fmt::Display,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            found: found.to_string(),
            needed: needed.to_string(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            found,
            needed,
            mend,
        } = self;
        write!(formatter, "{what} is {found}, needed {needed}: {mend}")
    }
}

/// The result of [`raise_open_files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit as it was.
    pub before: u64,
    /// The limit that holds now.
    pub now: u64,
}

/// Raises the soft limit of open files to the hard limit.
///
/// # Errors
/// The limits cannot be read or set.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let (before, _hard) = rlimit::Resource::NOFILE.get()?;
    let now = rlimit::increase_nofile_limit(u64::MAX)?;
    Ok(OpenFiles { before, now })
}

/// All that falls short. What is not known says nothing.
pub fn compare(facts: &Facts, needs: &Needs) -> Vec<Warning> {
    let mut warnings = Vec::new();
    warnings.extend(open_files(facts, needs));
    warnings.extend(system_files(facts, needs));
    warnings.extend(accept_queue(facts, needs));
    warnings.extend(tcp_memory(facts, needs));
    warnings.extend(tracked_connections(facts, needs));
    warnings.extend(memory(facts, needs));
    warnings.extend(overcommit(facts, needs));
    warnings.extend(facts.disks.iter().flat_map(disk_space));
    warnings.extend(ports(facts, needs));
    warnings.extend(clock(facts));
    warnings
}

fn open_files(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let (limit, needed) = (facts.open_files?, needs.open_files());
    (limit < needed).then(|| {
        Warning::new(
            "open files limit (RLIMIT_NOFILE)",
            limit,
            needed,
            "set LimitNOFILE= in the service's unit, or lower max_connections",
        )
    })
}

fn system_files(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let (limit, needed) = (facts.system_files?, needs.open_files());
    (limit < needed).then(|| {
        Warning::new(
            "open files limit of the whole system (fs.file-max)",
            limit,
            needed,
            "raise it with sysctl, or lower max_connections",
        )
    })
}

/// The kernel cuts each listener's backlog to this without a word.
fn accept_queue(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let limit = facts.accept_queue?;
    (limit < needs.backlog).then(|| {
        Warning::new(
            "accept queue limit (net.core.somaxconn)",
            limit,
            needs.backlog,
            "raise it with sysctl, or lower backlog",
        )
    })
}

fn tcp_memory(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let pages = facts.tcp_pages?.max;
    let needed = needs.connections.saturating_mul(TCP_PAGES_PER_CONNECTION);
    (pages < needed).then(|| {
        Warning::new(
            "memory for TCP in pages (net.ipv4.tcp_mem, third number)",
            pages,
            needed,
            "raise it with sysctl, or lower max_connections",
        )
    })
}

/// A firewall that follows connections drops those that do not fit its table.
fn tracked_connections(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let limit = facts.tracked_connections?;
    (limit < needs.connections).then(|| {
        Warning::new(
            "table of the firewall (net.netfilter.nf_conntrack_max)",
            limit,
            needs.connections,
            "raise it with sysctl, or let the firewall not track these ports",
        )
    })
}

fn memory(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let Memory { bytes, limit_of } = facts.memory.as_ref()?;
    let needed = needs.memory_bytes();
    (*bytes < needed).then(|| {
        Warning::new(
            format!("memory ({limit_of})"),
            mebibytes(*bytes),
            format!(
                "{} for {} connections",
                mebibytes(needed),
                needs.connections
            ),
            "allow more memory, or lower max_connections",
        )
    })
}

/// With strict accounting the kernel refuses memory that is asked for and not used yet.
fn overcommit(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let (left, needed) = (facts.commit_left_bytes?, needs.memory_bytes());
    (left < needed).then(|| {
        Warning::new(
            "memory that may still be reserved (vm.overcommit_memory = 2)",
            mebibytes(left),
            mebibytes(needed),
            "set vm.overcommit_memory to 0, or raise vm.overcommit_ratio",
        )
    })
}

fn disk_space(disk: &Disk) -> Vec<Warning> {
    let place = disk.path.display();
    let mut warnings = Vec::new();
    if disk.free_bytes < FREE_BYTES_MIN {
        warnings.push(Warning::new(
            format!("free space for {place}"),
            mebibytes(disk.free_bytes),
            format!("{} or more", mebibytes(FREE_BYTES_MIN)),
            "make room, or move it to a greater disk",
        ));
    }
    // Some file systems make inodes as they go, and say that they have none at all.
    if disk.inodes > 0 && disk.free_inodes < FREE_INODES_MIN {
        warnings.push(Warning::new(
            format!("free inodes for {place}"),
            disk.free_inodes,
            format!("{FREE_INODES_MIN} or more"),
            "remove small files, or make the file system anew with more inodes",
        ));
    }
    warnings
}

/// A port out of this range may be taken by an outgoing connection of any program just when we start.
fn ports(facts: &Facts, needs: &Needs) -> Option<Warning> {
    let range: &RangeInclusive<u16> = facts.outgoing_ports.as_ref()?;
    let is_reserved = |port: &u16| facts.reserved_ports.iter().any(|kept| kept.contains(port));
    let mut taken = needs.ports.iter();
    let port = taken.find(|port| range.contains(port) && !is_reserved(port))?;
    Some(Warning::new(
        format!("listener's port {port}"),
        format!(
            "among those of outgoing connections (net.ipv4.ip_local_port_range, {} to {})",
            range.start(),
            range.end()
        ),
        "a port that nobody else gets",
        "add it to net.ipv4.ip_local_reserved_ports with sysctl, or take another port",
    ))
}

fn clock(facts: &Facts) -> Option<Warning> {
    let mend =
        "let systemd-timesyncd or chrony set it: certificates and stored messages depend on it";
    match facts.clock {
        Clock::Behind(by) => Some(Warning::new(
            "clock",
            format!("{} s before this program was made", by.as_secs()),
            "the time of day",
            mend,
        )),
        Clock::Unsynchronised => Some(Warning::new(
            "clock",
            "not synchronised yet",
            "a clock that a time server sets",
            mend,
        )),
        Clock::Unknown | Clock::Synchronised => None,
    }
}

/// A clock that is late by less than this is not called wrong: files carry times of other machines.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_hours(24);

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / 1024 / 1024)
}

#[cfg(test)]
mod tests;
