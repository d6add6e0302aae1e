//! What the operating system knows of this process, under the names that Prometheus' own client libraries use.
use std::fs;

use prometheus_client::metrics::{family::Family, gauge::Gauge};

use crate::{Observed, Registry};

/// Ticks per second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on every architecture Linux exports it to.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds memory, file descriptors, threads, CPU, start time and build of this process. A value that `/proc` does not
/// give is exported as NaN, not left out: an alert can tell the two apart.
pub fn register_process(registry: &mut Registry, version: &'static str) {
    let build = Family::<[(&str, &str); 1], Gauge>::default();
    build.get_or_create(&[("version", version)]).set(1);
    registry.register(
        "xmpp_build_info",
        "Version of the running program, as a label",
        &["version"],
        build,
    );
    registry.observe("process_resident_memory_bytes", "Resident memory", || {
        status_field("VmRSS:") * 1024.0
    });
    registry.observe("process_virtual_memory_bytes", "Virtual memory", || {
        status_field("VmSize:") * 1024.0
    });
    registry.observe("process_threads", "Threads", || status_field("Threads:"));
    registry.observe("process_open_fds", "Open file descriptors", open_fds);
    registry.observe("process_max_fds", "Limit of open file descriptors", fds_max);
    registry.register(
        "process_cpu_seconds_total",
        "CPU time spent in user and system mode",
        &[],
        Observed::counter(cpu_seconds),
    );
    // Never changes: read once.
    let started = start_time();
    registry.observe(
        "process_start_time_seconds",
        "Start of the process since the epoch",
        move || started,
    );
}

/// A number of `/proc/self/status`, in the unit written there (kB for memory).
fn status_field(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    number(value.and_then(|rest| rest.split_whitespace().next()))
}

fn open_fds() -> f64 {
    // The descriptor of the listing itself is one of those counted.
    fs::read_dir("/proc/self/fd").map_or(f64::NAN, |entries| entries.count() as f64 - 1.0)
}

fn fds_max() -> f64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    number(line.and_then(|rest| rest.split_whitespace().next()))
}

fn cpu_seconds() -> f64 {
    (stat_field(14) + stat_field(15)) / TICKS_PER_SECOND
}

fn start_time() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = number(stat.lines().find_map(|line| line.strip_prefix("btime ")));
    booted + stat_field(22) / TICKS_PER_SECOND
}

/// Field `index` of `/proc/self/stat`, counted from 1 as proc(5) does. The second one, the program's name, may hold
/// blanks and parentheses, so counting starts behind its end.
fn stat_field(index: usize) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    number(behind_name.split_whitespace().nth(index.saturating_sub(3)))
}

fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_value_is_there_and_plausible() {
        assert!(status_field("VmRSS:") > 100.0);
        assert!(status_field("VmSize:") >= status_field("VmRSS:"));
        assert!(status_field("Threads:") >= 1.0);
        assert!(open_fds() >= 3.0);
        assert!(fds_max() >= open_fds());
        assert!(cpu_seconds() >= 0.0);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - start_time();
        assert!((-1.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_missing_field_is_not_a_number() {
        assert!(status_field("NoSuchField:").is_nan());
    }

    #[test]
    fn the_version_is_a_label() {
        let mut registry = Registry::new();
        register_process(&mut registry, "1.2.3");
        assert!(
            registry
                .to_text()
                .contains("xmpp_build_info{version=\"1.2.3\"} 1\n"),
            "{}",
            registry.to_text()
        );
    }
}
