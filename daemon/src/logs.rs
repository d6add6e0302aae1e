//! Logs: one line per event on standard error, as text or JSON, never in the way of the daemon's work.
//!
//! The lines go through a bounded queue to a thread of their own. When whoever reads standard error stops
//! reading, lines are dropped and counted; the daemon goes on.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

mod journal;
mod queue;

use journal::Output;
use queue::Queue;
pub use queue::{QUEUED_BYTES_MAX, QUEUED_LINES_MAX};

/// How much is logged: MongooseIM's words, from nothing to everything.
///
/// The five words above `warning` are one level here, and `notice` is `info`: a few lines per node per
/// minute at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    None,
    /// As `error`.
    Emergency,
    /// As `error`.
    Alert,
    /// As `error`.
    Critical,
    /// A person must act.
    Error,
    /// The daemon recovered by itself; and how its start and its stop go.
    #[default]
    Warning,
    /// As `info`.
    Notice,
    /// What happens to the daemon as a whole.
    Info,
    /// What happens to single sessions.
    Debug,
    /// Everything, of the libraries too.
    All,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::None => LevelFilter::OFF,
            Self::Emergency | Self::Alert | Self::Critical | Self::Error => LevelFilter::ERROR,
            Self::Warning => LevelFilter::WARN,
            Self::Notice | Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::All => LevelFilter::TRACE,
        }
    }

    /// The level for us, and at most warnings of talkative libraries unless everything is asked for.
    fn targets(self) -> Targets {
        let ours = self.filter();
        let theirs = match self {
            Self::All => LevelFilter::TRACE,
            _ => ours.min(LevelFilter::WARN),
        };
        let quiet = TALKATIVE_LIBRARIES.iter().map(|target| (*target, theirs));
        let lifecycle = match self {
            Self::Warning => LevelFilter::INFO,
            _ => ours,
        };
        Targets::new()
            .with_default(ours)
            .with_targets(quiet)
            .with_target(LIFECYCLE, lifecycle)
            .with_target(AUDIT, lifecycle)
    }
}

/// The target of what an operator waits for while the daemon starts or stops: logged at [`Level::Warning`] too.
pub const LIFECYCLE: &str = "lifecycle";
/// The target of what an operator has the daemon do: logged at [`Level::Warning`] too.
pub const AUDIT: &str = "audit";

/// Libraries that log each of their steps below `warn`.
const TALKATIVE_LIBRARIES: [&str; 8] = [
    "axum", "h2", "hyper", "mio", "rustls", "sqlx", "tokio", "tower",
];

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people: time, level, place, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Sends all logs of the process to standard error from here on, panics too.
///
/// Where standard error is the journal of systemd, each line begins with its priority, which the journal takes off, and
/// text has no time: the journal has a better one.
///
/// Keep the answer until the process ends: dropping it writes out what is queued.
///
/// # Errors
/// The process has logs already, or the thread that writes cannot be started.
pub fn init(level: Level, format: Format) -> Result<Logs, InitError> {
    let output = journal::output_of_stderr();
    let (queue, writer) =
        Queue::start(format, output, Box::new(io::stderr())).map_err(InitError::Thread)?;
    let (layer, filter) = layer::<Registry, _>(level, format, output, queue.clone());
    tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .map_err(|_| InitError::Twice)?;
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| log_panic(panic, &default_hook)));
    let levels = LevelControl {
        filter,
        level: Arc::new(Mutex::new(level)),
    };
    Ok(Logs {
        levels,
        queue,
        _writer: writer,
    })
}

/// Writes a text to standard error that is no event: why the process ends. As an error, where that is the journal.
/// Whether it could be written does not matter any more.
pub fn last_words(text: &str) {
    let prefix = journal::output_of_stderr().prefix(tracing::Level::ERROR);
    let lines = queue::prefixed(prefix, format!("{}\n", text.trim_end()).as_bytes());
    let _unwritten = io::Write::write_all(&mut io::stderr(), &lines);
}

/// Why [`init`] failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The thread that writes the lines could not be started.
    #[error("cannot start the thread that writes logs: {0}")]
    Thread(io::Error),
    /// Logs were initialised before.
    #[error("logs are initialised already")]
    Twice,
}

/// The process's logs: change the level, or drop it to write out what is queued.
pub struct Logs {
    levels: LevelControl,
    queue: Queue,
    _writer: queue::Writer,
}

/// The level of the process's logs, for those who change it while it runs. Cheap to clone.
#[derive(Clone)]
pub struct LevelControl {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<Mutex<Level>>,
}

impl LevelControl {
    /// Changes the level of all that is logged from here on.
    pub fn set_level(&self, level: Level) {
        let mut current = self.level.lock();
        // It fails only when the subscriber is gone, and then nothing is logged at all.
        let _gone = self.filter.reload(level.targets());
        *current = level;
    }

    /// The level of what is logged now.
    pub fn level(&self) -> Level {
        *self.level.lock()
    }
}

impl Logs {
    /// Changes the level of all that is logged from here on.
    pub fn set_level(&self, level: Level) {
        self.levels.set_level(level);
    }

    /// For those who change the level while the process runs.
    pub fn levels(&self) -> LevelControl {
        self.levels.clone()
    }

    /// How many lines were dropped since nobody read standard error fast enough.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

type FilterHandle<S> = reload::Handle<Targets, S>;

/// The layer that writes events that pass the level, and the handle to change the level.
fn layer<S, W>(
    level: Level,
    format: Format,
    output: Output,
    writer: W,
) -> (impl Layer<S>, FilterHandle<S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level.targets());
    let lines = fmt::layer().with_ansi(false).with_writer(writer);
    let lines: Box<dyn Layer<S> + Send + Sync> = match (format, output) {
        (Format::Text, Output::Stream) => lines.boxed(),
        (Format::Text, Output::Journal) => lines.without_time().boxed(),
        (Format::Json, _) => lines.json().flatten_event(true).boxed(),
    };
    (lines.with_filter(filter), handle)
}

type PanicHook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

fn log_panic(panic: &PanicHookInfo<'_>, default_hook: &PanicHook) {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return default_hook(panic);
    }
    let location = panic.location().map(ToString::to_string);
    tracing::error!(
        location = location.as_deref().unwrap_or("unknown"),
        error = panic.payload_as_str().unwrap_or("no text"),
        backtrace = %std::backtrace::Backtrace::capture(),
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use tracing::{debug, error, info, trace, warn};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log_each_level() {
        error!("e");
        warn!("w");
        info!("i");
        debug!("d");
        trace!("t");
    }

    #[test]
    fn start_and_stop_are_told_from_warning_on() {
        let told = |level: Level| {
            let captured = Captured::default();
            let lines = captured.clone();
            let (layer, _handle) =
                layer::<Registry, _>(level, Format::Text, Output::Stream, move || lines.clone());
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, || {
                info!(target: LIFECYCLE, "l");
                debug!(target: LIFECYCLE, "d");
                info!("i");
            });
            letters(&captured.take())
        };
        assert_eq!(told(Level::Error), "");
        assert_eq!(told(Level::Warning), "l");
        assert_eq!(told(Level::Info), "li");
    }

    fn letters(text: &str) -> String {
        let last = |line: &str| line.chars().next_back().unwrap();
        text.lines().map(last).collect()
    }

    #[test]
    fn each_word_of_mongooseim_is_a_level() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (layer, handle) = layer(Level::None, Format::Text, Output::Stream, move || {
            writer.clone()
        });
        let _guard = tracing_subscriber::registry().with(layer).set_default();
        let rows = [
            ("none", ""),
            ("emergency", "e"),
            ("alert", "e"),
            ("critical", "e"),
            ("error", "e"),
            ("warning", "ew"),
            ("notice", "ewi"),
            ("info", "ewi"),
            ("debug", "ewid"),
            ("all", "ewidt"),
        ];
        for (word, expected) in rows {
            let level: Level = serde_json::from_value(word.into()).unwrap();
            handle.reload(level.targets()).unwrap();
            log_each_level();
            assert_eq!(letters(&captured.take()), expected, "{word}");
        }
    }

    #[test]
    fn libraries_are_heard_from_warnings_on() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (layer, handle) = layer(Level::Debug, Format::Text, Output::Stream, move || {
            writer.clone()
        });
        let _guard = tracing_subscriber::registry().with(layer).set_default();
        info!(target: "sqlx::query", "i");
        warn!(target: "sqlx::query", "w");
        assert_eq!(letters(&captured.take()), "w");
        handle.reload(Level::Error.targets()).unwrap();
        warn!(target: "sqlx::query", "w");
        assert_eq!(captured.take(), "");
        handle.reload(Level::All.targets()).unwrap();
        trace!(target: "sqlx::query", "t");
        assert_eq!(letters(&captured.take()), "t");
    }

    #[test]
    fn json_is_one_object_per_line_with_the_fields_at_its_top() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (layer, _handle) = layer(Level::Info, Format::Json, Output::Stream, move || {
            writer.clone()
        });
        let _guard = tracing_subscriber::registry().with(layer).set_default();
        info!(sessions = 3, "drain\nbegins");
        let text = captured.take();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "drain\nbegins");
        assert_eq!(line["sessions"], 3);
        assert_eq!(line["level"], "INFO");
    }

    /// What a process says that initialises its logs, panics in a thread and ends.
    const CHILD: &str = "DAEMON_LOGS_TEST_CHILD";

    /// The child's part: run by the test below in a process of its own, since logs are for the whole process.
    #[test]
    fn child() {
        #[expect(clippy::disallowed_methods, reason = "set by the test below")]
        if std::env::var(CHILD).is_err() {
            return;
        }
        let logs = init(Level::Warning, Format::Json).unwrap();
        assert!(matches!(
            init(Level::Info, Format::Json),
            Err(InitError::Twice)
        ));
        info!("not heard");
        logs.set_level(Level::Info);
        info!("heard");
        let thread = std::thread::spawn(|| panic!("on purpose"));
        assert!(thread.join().is_err());
        assert_eq!(logs.dropped(), 0);
        logs.set_level(Level::None);
        error!("not heard");
    }

    #[test]
    fn a_process_logs_as_json_and_its_panics_too() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logs::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let messages: Vec<&serde_json::Value> = lines.iter().map(|line| &line["message"]).collect();
        assert_eq!(messages, ["heard", "panicked"]);
        assert_eq!(lines[1]["error"], "on purpose");
        assert!(lines[1]["location"].as_str().unwrap().contains("logs.rs:"));
    }
}
