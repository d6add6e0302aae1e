//! What a row is made of: the server's CPU and memory, and the generator's own CPU, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hashbrown::HashMap;
use rustix::time::{ClockId, clock_gettime};

/// The server's processes: those named by the user and all their descendants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    pids: Vec<u32>,
}

impl Server {
    /// Finds the process trees under `roots`; an empty list means that the server is not observed.
    pub(crate) fn find(roots: &[u32]) -> Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if let Some(parent) = stat_field(pid, PARENT_FIELD) {
                parents.push((pid, u32::try_from(parent).context("parent pid")?));
            }
        }
        for root in roots {
            ensure!(
                parents.iter().any(|(pid, _)| pid == root),
                "there is no process {root}"
            );
        }
        let mut pids = roots.to_vec();
        let mut next = 0;
        while let Some(&parent) = pids.get(next) {
            next += 1;
            for (pid, _) in parents.iter().filter(|(_, of)| *of == parent) {
                if !pids.contains(pid) {
                    pids.push(*pid);
                }
            }
        }
        Ok(Self { pids })
    }

    pub(crate) fn is_observed(&self) -> bool {
        !self.pids.is_empty()
    }

    /// `RssAnon`: resident memory that no file backs, in bytes, of all processes together.
    pub(crate) fn user_memory_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("server process {pid} is gone"))?;
            let kilobytes = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"))
                .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .with_context(|| format!("no RssAnon for process {pid}"))?;
            sum += kilobytes * 1024;
        }
        Ok(sum)
    }

    fn cpu(&self) -> Result<ServerCpu> {
        let mut cpu = ServerCpu::default();
        for &pid in &self.pids {
            let gone = || format!("server process {pid} is gone");
            cpu.user_ticks += stat_field(pid, USER_TIME_FIELD).with_context(gone)?;
            cpu.system_ticks += stat_field(pid, SYSTEM_TIME_FIELD).with_context(gone)?;
            for entry in fs::read_dir(format!("/proc/{pid}/task")).with_context(gone)? {
                let path = entry?.path();
                // A thread may end between the listing and the reading.
                let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else {
                    continue;
                };
                let nanoseconds = schedstat
                    .split(' ')
                    .next()
                    .and_then(|text| text.parse().ok());
                let thread = path
                    .file_name()
                    .and_then(|name| name.to_str()?.parse().ok());
                if let (Some(thread), Some(nanoseconds)) = (thread, nanoseconds) {
                    cpu.threads.insert(thread, nanoseconds);
                }
            }
        }
        Ok(cpu)
    }
}

/// Positions after the command's name in `/proc/PID/stat`, the state being 0 (proc_pid_stat(5)).
const PARENT_FIELD: usize = 1;
const USER_TIME_FIELD: usize = 11;
const SYSTEM_TIME_FIELD: usize = 12;

fn stat_field(pid: u32, field: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(field)?
        .parse()
        .ok()
}

#[derive(Debug, Default)]
struct ServerCpu {
    /// Nanoseconds on a CPU, by thread.
    threads: HashMap<u32, u64, ahash::RandomState>,
    user_ticks: u64,
    system_ticks: u64,
}

impl ServerCpu {
    /// CPU used since `earlier`, and the part of it spent outside the kernel.
    ///
    /// `schedstat` counts nanoseconds but forgets threads that have ended; `stat` remembers them, in ticks of
    /// 10 ms. The finer figure is taken unless a thread is missing.
    fn since(&self, earlier: &Self) -> (Duration, Duration) {
        let user = self.user_ticks - earlier.user_ticks;
        let ticks = user + self.system_ticks - earlier.system_ticks;
        let all_alive = earlier
            .threads
            .keys()
            .all(|thread| self.threads.contains_key(thread));
        let nanoseconds = if all_alive {
            let before = |thread| earlier.threads.get(thread).copied().unwrap_or(0);
            self.threads
                .iter()
                .map(|(thread, now)| now.saturating_sub(before(thread)))
                .sum()
        } else {
            ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second()
        };
        let total = Duration::from_nanos(nanoseconds);
        let user_share = if ticks == 0 {
            0.0
        } else {
            user as f64 / ticks as f64
        };
        (total, total.mul_f64(user_share))
    }
}

/// CPU time of this process, all threads.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().expect("CPU time is not negative"),
        time.tv_nsec
            .try_into()
            .expect("nanoseconds are below a billion"),
    )
}

/// Time in which this process could have run, but its CPU was given to others.
fn own_waiting() -> Duration {
    let schedstat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = schedstat
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// An open measuring window.
pub(crate) struct Window {
    server: Server,
    start: Instant,
    own: Duration,
    own_waiting: Duration,
    cpu: ServerCpu,
}

/// What was used within a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    /// CPU of the generator.
    pub(crate) own: Duration,
    /// Time that neighbours took from the generator.
    pub(crate) own_waiting: Duration,
    /// CPU of the server, and its part outside the kernel; `None` when the server is not observed.
    pub(crate) server: Option<(Duration, Duration)>,
}

impl Window {
    pub(crate) fn open(server: &Server) -> Result<Self> {
        let cpu = server.cpu()?;
        Ok(Self {
            server: server.clone(),
            cpu,
            own: own_cpu(),
            own_waiting: own_waiting(),
            start: Instant::now(),
        })
    }

    pub(crate) fn close(&self) -> Result<Used> {
        let (wall, own) = (self.start.elapsed(), own_cpu() - self.own);
        let own_waiting = own_waiting().saturating_sub(self.own_waiting);
        let server = if self.server.is_observed() {
            Some(self.server.cpu()?.since(&self.cpu))
        } else {
            None
        };
        Ok(Used {
            wall,
            own,
            own_waiting,
            server,
        })
    }
}

impl Used {
    /// The generator's share of one core, 1.0 being all of it.
    pub(crate) fn own_share(&self) -> f64 {
        self.own.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let server = Server::find(&[std::process::id()]).unwrap();
        let before = server.user_memory_bytes().unwrap();
        let window = Window::open(&server).unwrap();
        let block = vec![1_u8; 32 << 20];
        let mut sum = 0_u64;
        // At least once, however long the block itself took on a busy machine.
        loop {
            sum += block.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            if window.start.elapsed() >= Duration::from_millis(100) {
                break;
            }
        }
        assert!(sum > 0);
        let used = window.close().unwrap();
        assert!(server.user_memory_bytes().unwrap() >= before + (30 << 20));
        let (total, user) = used.server.unwrap();
        assert!(total >= Duration::from_millis(5), "{total:?}");
        assert!(user <= total);
        assert!(used.own >= Duration::from_millis(5), "{:?}", used.own);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Server::find(&[u32::MAX]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("there is no process {}", u32::MAX)
        );
    }

    #[test]
    fn an_ended_thread_makes_the_ticks_count() {
        let earlier = ServerCpu {
            threads: [(1, 1_000), (2, 5_000)].into_iter().collect(),
            user_ticks: 10,
            system_ticks: 10,
        };
        let mut later = ServerCpu {
            threads: [(1, 4_000), (2, 5_000), (3, 2_000)].into_iter().collect(),
            user_ticks: 11,
            system_ticks: 13,
        };
        assert_eq!(later.since(&earlier).0, Duration::from_nanos(5_000));
        later.threads.remove(&2);
        let tick = Duration::from_secs(1)
            / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        assert_eq!(later.since(&earlier), (tick * 4, tick));
    }
}
