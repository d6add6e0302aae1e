//! What is to be known of this machine without privileges: from `/proc`, `/sys`, `/run` and the file systems.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{CLOCK_BEHIND_MAX, Needs};

/// What is known. `None`, or an empty list, for what this machine does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many files this process may have open.
    pub open_files: Option<u64>,
    /// The same for all processes together.
    pub system_files: Option<u64>,
    /// How many connections may wait to be accepted by a listener.
    pub accept_queue: Option<u64>,
    /// The kernel's memory for TCP.
    pub tcp_pages: Option<TcpPages>,
    /// How many connections the firewall follows; `None` also where it follows none.
    pub tracked_connections: Option<u64>,
    /// The memory that we may have.
    pub memory: Option<Memory>,
    /// What may still be reserved, where that is limited.
    pub commit_left_bytes: Option<u64>,
    /// The disks of the directories asked for.
    pub disks: Vec<Disk>,
    /// Ports that outgoing connections take.
    pub outgoing_ports: Option<RangeInclusive<u16>>,
    /// Ports out of that range that they do not take.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
    /// How good the clock is.
    pub clock: Clock,
}

/// `net.ipv4.tcp_mem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpPages {
    /// Its third number: more pages the kernel does not take.
    pub max: u64,
}

/// How much memory there is at the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// So much.
    pub bytes: u64,
    /// Who says so: the machine, or a limit of the control group.
    pub limit_of: &'static str,
}

/// The disk of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The directory.
    pub path: PathBuf,
    /// Space that an ordinary user may still take.
    pub free_bytes: u64,
    /// Files that it may still make.
    pub free_inodes: u64,
    /// All inodes; 0 where the file system has no such number.
    pub inodes: u64,
}

/// How good the clock is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// Nobody says.
    #[default]
    Unknown,
    /// A time server sets it.
    Synchronised,
    /// Somebody is to set it and has not yet.
    Unsynchronised,
    /// It shows a time by so much before this program was made.
    Behind(Duration),
}

impl Facts {
    /// Reads them. What cannot be read is left out.
    pub fn read(needs: &Needs) -> Self {
        let mut facts = Self::below(Path::new("/"));
        facts.open_files = rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft);
        facts.disks = disks(&needs.directories);
        facts
    }

    /// What the files below `root` say, which is laid out as `/` is.
    pub(super) fn below(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let number = |path: &str| text(path).trim().parse::<u64>().ok();
        let memory_page = text("proc/meminfo");
        let is_strict = number("proc/sys/vm/overcommit_memory") == Some(2);
        let limit = field_bytes(&memory_page, "CommitLimit:");
        let taken = field_bytes(&memory_page, "Committed_AS:");
        Self {
            open_files: None,
            system_files: number("proc/sys/fs/file-max"),
            accept_queue: number("proc/sys/net/core/somaxconn"),
            tcp_pages: third_number(&text("proc/sys/net/ipv4/tcp_mem")),
            tracked_connections: number("proc/sys/net/netfilter/nf_conntrack_max"),
            memory: memory(root, &memory_page),
            commit_left_bytes: limit
                .zip(taken)
                .filter(|_| is_strict)
                .map(|(limit, taken)| limit.saturating_sub(taken)),
            disks: Vec::new(),
            outgoing_ports: port_range(&text("proc/sys/net/ipv4/ip_local_port_range")),
            reserved_ports: port_list(&text("proc/sys/net/ipv4/ip_local_reserved_ports")),
            clock: clock(root, SystemTime::now()),
        }
    }
}

fn third_number(text: &str) -> Option<TcpPages> {
    let max = text.split_ascii_whitespace().nth(2)?.parse().ok()?;
    Some(TcpPages { max })
}

/// A field of `/proc/meminfo`, which has kB.
fn field_bytes(page: &str, field: &str) -> Option<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// `32768 60999`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(first..=last)
}

/// `5222,8000-8010`.
fn port_list(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).collect()
}

/// The least of what the machine has and what our control group, or one around it, may use.
fn memory(root: &Path, page: &str) -> Option<Memory> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let machine = field_bytes(page, "MemTotal:").map(|bytes| Memory {
        bytes,
        limit_of: "of the machine",
    });
    let group = groups.lines().filter_map(|line| group_limit(root, line));
    let group = group.min().map(|bytes| Memory {
        bytes,
        limit_of: "limit of the control group, MemoryMax=",
    });
    machine
        .into_iter()
        .chain(group)
        .min_by_key(|memory| memory.bytes)
}

/// A line of `/proc/self/cgroup`: `0::/path` for version 2, `N:memory:/path` for version 1.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file) = match (number, controllers) {
        ("0", "") => ("sys/fs/cgroup", "memory.max"),
        (_, "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let mount = root.join(mount);
    let group = mount.join(path.trim_start_matches('/'));
    let around = group
        .ancestors()
        .take_while(|group| group.starts_with(&mount));
    // `max` is no number: there is no limit.
    let limits = around.filter_map(|group| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    });
    limits.min()
}

fn disks(directories: &[PathBuf]) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    for directory in directories {
        if !disks.iter().any(|disk| disk.path == *directory)
            && let Ok(disk) = disk(directory)
        {
            disks.push(disk);
        }
    }
    disks
}

/// The disk that a directory is on; if it is not there yet, that of the next one around it.
///
/// # Errors
/// Nothing of the path is there, or the file system does not answer.
pub fn disk(directory: &Path) -> io::Result<Disk> {
    let absolute = std::path::absolute(directory)?;
    let mut found = io::Error::from(io::ErrorKind::NotFound);
    for around in absolute.ancestors() {
        match rustix::fs::statvfs(around) {
            Ok(answer) => {
                return Ok(Disk {
                    path: directory.to_owned(),
                    free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
                    free_inodes: answer.f_favail,
                    inodes: answer.f_files,
                });
            }
            Err(error) if error == rustix::io::Errno::NOENT => found = error.into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(found)
}

/// systemd-timesyncd says by a file that it has set the clock; other programs tell only who may ask them. A clock that
/// shows a time before this program was made is wrong whoever says otherwise.
fn clock(root: &Path, now: SystemTime) -> Clock {
    let made = fs::metadata(root.join("proc/self/exe")).and_then(|file| file.modified());
    let behind = made.ok().and_then(|made| made.duration_since(now).ok());
    if let Some(behind) = behind.filter(|by| *by > CLOCK_BEHIND_MAX) {
        return Clock::Behind(behind);
    }
    let timesync = root.join("run/systemd/timesync");
    match (timesync.join("synchronized").exists(), timesync.is_dir()) {
        (true, _) => Clock::Synchronised,
        (false, true) => Clock::Unsynchronised,
        (false, false) => Clock::Unknown,
    }
}
