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
    let beats = async move { beat(interval, &shutdown, || notify("WATCHDOG=1")).await };
    // Not among the tasks: a drain waits for those.
    #[expect(clippy::disallowed_methods, reason = "must not be waited for")]
    tokio::spawn(beats);
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

fn notify(message: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "set by the service manager, not by a person"
    )]
    let socket = env::var("NOTIFY_SOCKET");
    let Ok(socket) = socket else { return };
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
