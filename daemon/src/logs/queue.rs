//! The bounded queue between whoever logs and the thread that writes the lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::Format;
use super::journal::Output;

/// At most this many lines wait to be written; further ones are dropped and counted.
pub const QUEUED_LINES_MAX: usize = 16_384;

/// At most this many bytes wait to be written; a line that does not fit is dropped and counted.
pub const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the end of the process waits for a reader that does not read.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// The end that logs. It never blocks.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Order>,
    counts: Arc<Counts>,
    reader: Output,
}

/// The end that writes: a thread. Dropping it writes out what is queued, for at most [`FLUSH_WAIT_MAX`].
pub(super) struct Writer {
    queue: Queue,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Line(Box<[u8]>),
    Stop,
}

#[derive(Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    pub(super) fn start(
        format: Format,
        reader: Output,
        output: Box<dyn Write + Send>,
    ) -> io::Result<(Self, Writer)> {
        let (sender, receiver) = sync_channel(QUEUED_LINES_MAX);
        let (done_sender, done) = sync_channel(1);
        let counts = Arc::new(Counts::default());
        let queue = Self {
            sender,
            counts: Arc::clone(&counts),
            reader,
        };
        let thread = std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || {
                write_lines(&receiver, &counts, (format, reader), output);
                // Nobody waits any more when the wait was too long.
                let _gone = done_sender.send(());
            })?;
        let writer = Writer {
            queue: queue.clone(),
            done,
            thread: Some(thread),
        };
        Ok((queue, writer))
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    fn push(&self, line: &[u8]) {
        let queued = &self.counts.queued_bytes;
        let before = queued.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before.saturating_add(line.len()) <= QUEUED_BYTES_MAX;
        if !fits || self.sender.try_send(Order::Line(line.into())).is_err() {
            queued.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A full queue means that nobody reads; there is nothing to wait for then.
        if self.queue.sender.try_send(Order::Stop).is_ok()
            && self.done.recv_timeout(FLUSH_WAIT_MAX).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _panicked = thread.join();
        }
    }
}

fn write_lines(
    receiver: &Receiver<Order>,
    counts: &Counts,
    form: (Format, Output),
    mut output: Box<dyn Write + Send>,
) {
    let mut dropped_told = 0;
    while let Ok(Order::Line(line)) = receiver.recv() {
        // A closed standard error is no reason to stop: there is nobody left to tell.
        let _unwritten = output.write_all(&line);
        counts.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        let dropped = counts.dropped.load(Ordering::Relaxed);
        if dropped > dropped_told {
            let _unwritten = output.write_all(dropped_line(form, dropped).as_bytes());
            dropped_told = dropped;
        }
    }
    let _unwritten = output.flush();
}

/// The line that tells of dropped lines; written by hand, since logging it could be dropped as well.
fn dropped_line((format, reader): (Format, Output), total: u64) -> String {
    let prefix = reader.prefix(Level::WARN);
    match format {
        Format::Text => format!("{prefix}WARN daemon::logs: log lines dropped total={total}\n"),
        Format::Json => format!(
            "{prefix}{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"total\":{total},\"target\":\"daemon::logs\"}}\n"
        ),
    }
}

/// Takes one event's line. `tracing_subscriber` writes each event with one call.
pub(super) struct Line<'a> {
    queue: &'a Queue,
    prefix: &'static str,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.prefix.is_empty() {
            self.queue.push(bytes);
        } else {
            self.queue.push(&prefixed(self.prefix, bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The prefix before each line of an event: a backtrace has several.
pub(super) fn prefixed(prefix: &str, bytes: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes.len() + prefix.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        lines.extend_from_slice(prefix.as_bytes());
        lines.extend_from_slice(line);
    }
    lines
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        let prefix = self.reader.prefix(Level::INFO);
        Line {
            queue: self,
            prefix,
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        let prefix = self.reader.prefix(*event.level());
        Line {
            queue: self,
            prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// An output that gives a token before each write, and blocks until it gets one back.
    struct Gated {
        entered: SyncSender<()>,
        gate: Receiver<()>,
        text: Arc<Mutex<String>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // After the test has let go of its ends, writes pass freely.
            let _free = self.entered.send(());
            let _free = self.gate.recv();
            self.text.lock().push_str(str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_reader_costs_lines_and_not_time() {
        let (entered, is_entered) = sync_channel(0);
        let (open, gate) = sync_channel(0);
        let text = Arc::new(Mutex::new(String::new()));
        let output = Gated {
            entered,
            gate,
            text: Arc::clone(&text),
        };
        let (queue, writer) = Queue::start(Format::Text, Output::Stream, Box::new(output)).unwrap();
        queue.push(b"first\n");
        is_entered.recv().unwrap();

        // The thread is stuck in the first line. The queue holds its number of lines and no more.
        for _ in 0..QUEUED_LINES_MAX {
            queue.push(b"x\n");
        }
        assert_eq!(queue.dropped(), 0);
        queue.push(b"too many\n");
        queue.push(b"too many\n");
        assert_eq!(queue.dropped(), 2);

        open.send(()).unwrap();
        drop((open, is_entered));
        // A slot is free once the thread has taken a line; then the end writes all out.
        while queue.counts.queued_bytes.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        drop(writer);
        let text = text.lock();
        assert!(text.starts_with("first\nWARN daemon::logs: log lines dropped total=2\nx\n"));
        assert_eq!(text.lines().count(), QUEUED_LINES_MAX + 2);
        assert!(!text.contains("too many"));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (entered, is_entered) = sync_channel(0);
        let (open, gate) = sync_channel(0);
        let output = Gated {
            entered,
            gate,
            text: Arc::default(),
        };
        let (queue, writer) = Queue::start(Format::Text, Output::Stream, Box::new(output)).unwrap();
        let line = vec![b'x'; QUEUED_BYTES_MAX / 4];
        for _ in 0..4 {
            queue.push(&line);
        }
        assert_eq!(queue.dropped(), 0);
        queue.push(&line);
        assert_eq!(queue.dropped(), 1);
        drop((open, is_entered));
        drop(writer);
    }

    #[test]
    fn the_dropped_line_in_json_is_json() {
        let line = dropped_line((Format::Json, Output::Stream), 7);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["total"], 7);
    }

    #[test]
    fn each_line_for_the_journal_has_its_priority() {
        let lines = prefixed("<3>", b"panicked\n  at a\n  at b\n");
        assert_eq!(lines, b"<3>panicked\n<3>  at a\n<3>  at b\n");
        let line = dropped_line((Format::Text, Output::Journal), 7);
        assert!(line.starts_with("<4>WARN "), "{line}");
    }
}
