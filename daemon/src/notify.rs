//! Tells the service manager how we are: sd_notify(3), by the socket that `NOTIFY_SOCKET` names.
//!
//! Without the variable (not started by systemd) all of this does nothing. What cannot be sent is logged
//! at debug: the service manager finds out by itself.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use tracing::debug;

use crate::Shutdown;

/// We serve.
pub fn notify_ready() {
    notify("READY=1");
}

/// We read our files again; [`notify_ready`] says that it is done. The time tells the service manager which of two
/// requests this answers.
pub fn notify_reloading() {
    notify(&reloading(rustix::time::clock_gettime(
        rustix::time::ClockId::Monotonic,
    )));
}

fn reloading(now: rustix::time::Timespec) -> String {
    let microseconds = now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

/// We are on our way out.
pub fn notify_stopping() {
    notify("STOPPING=1");
}

/// One line for `systemctl status`, such as the progress of a drain.
pub fn notify_status(status: &str) {
    let line: String = status
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    notify(&format!("STATUS={line}"));
}

/// Tells the service manager each `every` what `status` says, until `shutdown` begins: from then on others speak.
/// `false` if there is no service manager.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn statuses(
    shutdown: &Shutdown,
    every: Duration,
    status: impl Fn() -> String + Send + 'static,
) -> bool {
    if !is_asked_for() {
        return false;
    }
    let shutdown = shutdown.clone();
    untracked(async move {
        let mut ticks = tokio::time::interval(every);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => notify_status(&status()),
            }
        }
    });
    true
}

/// Asks the service manager for more time than the unit's `TimeoutStartSec=` or `TimeoutStopSec=` as long as `until` has
/// not ended, [`EXTENSION`] at a time: who stops asking is cut that much later. Nothing without a service manager.
///
/// The requests come from a task of the runtime, so a runtime that is stuck gets no more time.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn extend_timeouts(until: impl Future<Output = ()> + Send + 'static) {
    if is_asked_for() {
        untracked(extend(until, || {
            notify(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }));
    }
}

/// So much time is asked for at once, three times as often as it would run out.
pub const EXTENSION: Duration = Duration::from_secs(15);

async fn extend(until: impl Future<Output = ()>, ask: impl Fn()) {
    let mut until = std::pin::pin!(until);
    let mut ticks = tokio::time::interval(EXTENSION / 3);
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            _ = ticks.tick() => ask(),
        }
    }
}

/// Runs something that a drain does not wait for.
fn untracked(work: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "must not be waited for")]
    tokio::spawn(work);
}

/// Starts the signs of life that the unit's `WatchdogSec=` asks for, at half its interval, until a drain of
/// `shutdown` has ended: a long drain is no hang. `false` if none are asked for.
///
/// They come from a task of the runtime, so a runtime that is stuck is restarted.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn watchdog(shutdown: &Shutdown) -> bool {
    let Some(interval) = watchdog_interval(
        env_number("WATCHDOG_USEC"),
        env_number("WATCHDOG_PID"),
        std::process::id(),
    ) else {
        return false;
    };
    let shutdown = shutdown.clone();
    untracked(async move { beat(interval, &shutdown, || notify("WATCHDOG=1")).await });
    true
}

async fn beat(interval: Duration, shutdown: &Shutdown, tell: impl Fn()) {
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        tokio::select! {
            biased;
            () = shutdown.drained() => break,
            _ = ticks.tick() => tell(),
        }
    }
}

fn watchdog_interval(microseconds: Option<u64>, pid: Option<u64>, own: u32) -> Option<Duration> {
    let for_us = pid.is_none_or(|pid| pid == u64::from(own));
    // An interval of nothing would make the ticks panic.
    microseconds
        .filter(|interval| for_us && *interval >= 2)
        .map(Duration::from_micros)
}

fn is_asked_for() -> bool {
    socket_name().is_some()
}

fn socket_name() -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "set by the service manager, not by a person"
    )]
    let name = env::var("NOTIFY_SOCKET");
    name.ok()
}

fn notify(message: &str) {
    let Some(socket) = socket_name() else { return };
    if let Err(error) = send(socket.as_bytes(), message) {
        debug!(%error, "service manager not told");
    }
}

fn env_number(name: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "set by the service manager, not by a person"
    )]
    let text = env::var(name);
    text.ok()?.parse().ok()
}

/// Sends one datagram to a path, or with a leading `@` to an abstract name.
fn send(socket: &[u8], message: &str) -> io::Result<()> {
    let address = match socket.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(socket)))?,
    };
    let sender = UnixDatagram::unbound()?;
    // A service manager that does not read must not hold us up.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        receiver
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), "READY=1").unwrap();
        assert_eq!(received(&receiver), "READY=1");

        let name = format!("daemon-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_bytes(), "STOPPING=1").unwrap();
        assert_eq!(received(&receiver), "STOPPING=1");
    }

    #[test]
    fn nobody_there_is_an_error_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        assert!(send(path.as_os_str().as_bytes(), "READY=1").is_err());
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let at = rustix::time::Timespec {
            tv_sec: 12,
            tv_nsec: 345_678_901,
        };
        assert_eq!(reloading(at), "RELOADING=1\nMONOTONIC_USEC=12345678");
    }

    #[tokio::test(start_paused = true)]
    async fn more_time_is_asked_for_until_the_end() {
        let asked = std::cell::Cell::new(0);
        let end = tokio::time::sleep(EXTENSION * 2 - Duration::from_secs(1));
        extend(end, || asked.set(asked.get() + 1)).await;
        // One at once, and one with each third of the time that was asked for.
        assert_eq!(asked.get(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_until_the_drain_has_ended() {
        let shutdown = Shutdown::new();
        shutdown.tasks().spawn("deaf", std::future::pending::<()>());
        let beats = std::cell::Cell::new(0);
        let tell = || beats.set(beats.get() + 1);
        let fed = beat(Duration::from_secs(2), &shutdown, tell);
        let drain = shutdown.drain(Duration::from_millis(9_500));
        let ((), drained) = tokio::join!(fed, drain);
        assert_eq!(drained.cut, 1);
        // One at once, and one with each of nine seconds.
        assert_eq!(beats.get(), 10);
    }

    #[test]
    fn the_watchdog_is_ours_or_not() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog_interval(None, None, 7), None);
        assert_eq!(watchdog_interval(Some(1_000_000), None, 7), second);
        assert_eq!(watchdog_interval(Some(1_000_000), Some(7), 7), second);
        assert_eq!(watchdog_interval(Some(1_000_000), Some(8), 7), None);
        assert_eq!(watchdog_interval(Some(0), None, 7), None);
    }
}
