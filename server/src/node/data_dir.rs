//! A data directory belongs to one node at a time: the second one would take the first one's stanzas in flight for
//! those of a dead process.
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file in the data directory whose lock says that somebody is there. It stays when the node has gone; its lock
/// goes with the process, however that ends.
pub const LOCK_NAME: &str = "meerkat.lock";

/// Holds a lock until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("another node uses {0}")]
    InUse(PathBuf),
    /// The lock cannot be made.
    #[error("{path} cannot be locked: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Takes the directory for this node.
pub fn lock(data_dir: &Path) -> Result<Lock, LockError> {
    let path = data_dir.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(error) => return Err(LockError::Io { path, error }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(LockError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(LockError::Io { path, error }),
    }
}

/// Whether a node runs with this directory. Looks only: makes nothing.
pub fn is_in_use(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join(LOCK_NAME)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_in_use(dir.path()));
        let first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(LockError::InUse(_))));
        assert!(is_in_use(dir.path()));
        drop(first);
        assert!(!is_in_use(dir.path()));
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = lock(&dir.path().join("missing")).unwrap_err();
        assert!(
            error.to_string().contains("meerkat.lock cannot be locked"),
            "{error}"
        );
    }
}
