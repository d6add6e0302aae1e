//! The journal of systemd as the reader of standard error: sd-daemon(3), `JOURNAL_STREAM` in systemd.exec(5).

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::Level;

/// Who reads what is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Anybody: a terminal, a file, a pipe.
    Stream,
    /// The journal, which takes a priority at the start of a line and knows the time.
    Journal,
}

impl Output {
    /// What a line of this level begins with.
    pub(super) fn prefix(self, level: Level) -> &'static str {
        match (self, level) {
            (Self::Stream, _) => "",
            (Self::Journal, Level::ERROR) => "<3>",
            (Self::Journal, Level::WARN) => "<4>",
            (Self::Journal, Level::INFO) => "<6>",
            (Self::Journal, _) => "<7>",
        }
    }
}

/// Whether standard error is the stream to the journal that the service manager has set up for us.
pub(super) fn output_of_stderr() -> Output {
    #[expect(
        clippy::disallowed_methods,
        reason = "set by the service manager, not by a person"
    )]
    let stream = env::var("JOURNAL_STREAM");
    match (stream, identity(io::stderr())) {
        (Ok(stream), Ok(own)) if stream == own => Output::Journal,
        // Also where the variable came from a program around us that sends our lines elsewhere.
        _ => Output::Stream,
    }
}

/// Device and inode as the variable has them.
fn identity(stream: impl AsFd) -> io::Result<String> {
    let file = File::from(stream.as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_for_the_journal_alone() {
        let levels = [
            (Level::ERROR, "<3>"),
            (Level::WARN, "<4>"),
            (Level::INFO, "<6>"),
            (Level::DEBUG, "<7>"),
            (Level::TRACE, "<7>"),
        ];
        for (level, expected) in levels {
            assert_eq!(Output::Journal.prefix(level), expected);
            assert_eq!(Output::Stream.prefix(level), "");
        }
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let expected = format!("{}:{}", metadata.dev(), metadata.ino());
        assert_eq!(identity(&file).unwrap(), expected);
    }
}
