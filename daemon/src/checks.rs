//! What the machine allows, compared at start with what the configuration wants.
//!
//! Nothing here stops a start: each finding is a warning with both numbers and what to do.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// What the daemon needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Files and sockets open at the same time: connections, database, logs.
    pub open_files: u64,
    /// The greatest `backlog` of a listener.
    pub backlog: u64,
    /// TCP connections at the same time.
    pub connections: u64,
}

/// Raises the limit of open files as far as it goes, and says where the machine allows less than is needed.
pub fn run(needs: &Needs) -> Vec<Warning> {
    let mut warnings = Vec::new();
    match raise_open_files() {
        Ok(limit) => warnings.extend(open_files(limit, needs)),
        Err(error) => warnings.push(Warning {
            what: "open files limit (RLIMIT_NOFILE)",
            found: format!("unknown: {error}"),
            needed: needs.open_files,
            mend: "set LimitNOFILE= in the service's unit",
        }),
    }
    let proc = Path::new("/proc/sys/net");
    warnings.extend(somaxconn(&read(&proc.join("core/somaxconn")), needs));
    warnings.extend(tcp_memory(&read(&proc.join("ipv4/tcp_mem")), needs));
    warnings
}

/// One limit that is too low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which limit.
    pub what: &'static str,
    /// Its value here.
    pub found: String,
    /// What the configuration wants.
    pub needed: u64,
    /// What to do.
    pub mend: &'static str,
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

/// Raises the soft limit of open files to the hard limit; answers with the limit that holds now.
///
/// # Errors
/// The limits cannot be read or set.
pub fn raise_open_files() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

fn open_files(limit: u64, needs: &Needs) -> Option<Warning> {
    (limit < needs.open_files).then(|| Warning {
        what: "open files limit (RLIMIT_NOFILE)",
        found: limit.to_string(),
        needed: needs.open_files,
        mend: "set LimitNOFILE= in the service's unit, or lower max_connections",
    })
}

/// The kernel cuts each listener's backlog to this without a word.
fn somaxconn(text: &str, needs: &Needs) -> Option<Warning> {
    let limit: u64 = text.trim().parse().ok()?;
    (limit < needs.backlog).then(|| Warning {
        what: "accept queue limit (net.core.somaxconn)",
        found: limit.to_string(),
        needed: needs.backlog,
        mend: "raise it with sysctl, or lower backlog",
    })
}

/// Pages that an idle connection takes of the kernel's memory for TCP at the most: one per direction. Past
/// the third number of `tcp_mem` the kernel drops what comes in.
const PAGES_PER_CONNECTION: u64 = 2;

fn tcp_memory(text: &str, needs: &Needs) -> Option<Warning> {
    let pages: u64 = text.split_ascii_whitespace().nth(2)?.parse().ok()?;
    let needed = needs.connections.saturating_mul(PAGES_PER_CONNECTION);
    (pages < needed).then(|| Warning {
        what: "memory for TCP in pages (net.ipv4.tcp_mem, third number)",
        found: pages.to_string(),
        needed,
        mend: "raise it with sysctl, or lower max_connections",
    })
}

/// The text of a file of /proc; empty where there is none, as on a machine of another kind.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        open_files: 100_000,
        backlog: 1024,
        connections: 90_000,
    };

    #[test]
    fn limits_that_suffice_are_not_mentioned() {
        assert_eq!(open_files(100_000, &NEEDS), None);
        assert_eq!(somaxconn("1024\n", &NEEDS), None);
        assert_eq!(tcp_memory("1 2 180000\n", &NEEDS), None);
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_both_numbers() {
        let rows = [
            (
                open_files(1024, &NEEDS),
                "open files limit (RLIMIT_NOFILE) is 1024, needed 100000: ",
            ),
            (
                somaxconn("128\n", &NEEDS),
                "accept queue limit (net.core.somaxconn) is 128, needed 1024: ",
            ),
            (
                tcp_memory("1\t2\t179999\n", &NEEDS),
                "memory for TCP in pages (net.ipv4.tcp_mem, third number) is 179999, needed 180000: ",
            ),
        ];
        for (warning, expected) in rows {
            let text = warning.unwrap().to_string();
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn files_that_are_not_there_or_not_numbers_say_nothing() {
        for text in ["", "many", "1 2"] {
            assert_eq!(somaxconn(text, &NEEDS), None);
            assert_eq!(tcp_memory(text, &NEEDS), None);
        }
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_limit() {
        let limit = raise_open_files().unwrap();
        let (soft, _hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap();
        assert_eq!(limit, soft);
        assert!(
            run(&Needs {
                open_files: limit,
                backlog: 0,
                connections: 0
            })
            .is_empty()
        );
        let warnings = run(&Needs {
            open_files: limit + 1,
            backlog: 0,
            connections: 0,
        });
        assert_eq!(warnings.len(), 1);
    }
}
