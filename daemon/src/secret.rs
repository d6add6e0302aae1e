//! Secrets: values that no log, error or printed configuration shows.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A password, key or token. `Debug` and `Serialize` show three stars; only [`Secret::reveal`] gives the
/// value.
///
/// In a configuration a secret stands in the file itself, which then must not be readable by others, or in
/// a file of its own: the option with `_file` at its end (`password_file` beside `password`). Both together
/// are resolved by [`Secret::resolve`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// A secret in a file of its own has at most this many bytes.
pub const SECRET_BYTES_MAX: usize = 4096;

/// The mode that a file with a secret may have at most: others nothing, the group no more than reading.
pub const SECRET_MODE_MAX: u32 = 0o640;

impl Secret {
    /// A secret with this value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value. Whoever calls this must not print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads a secret from a file of its own; one line end at its end does not count.
    ///
    /// # Errors
    /// The file cannot be read, is not a file, may be read by others (mode above 0640), is empty, not UTF-8
    /// or longer than [`SECRET_BYTES_MAX`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |error| SecretError::Unreadable(path.into(), error);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(SecretError::NotAFile(path.into()));
        }
        // From here on the opened file counts, whatever the path means by now.
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if is_mode_open(mode) {
            return Err(SecretError::OpenToOthers(path.into(), mode));
        }
        let mut text = String::new();
        let limit = u64::try_from(SECRET_BYTES_MAX).expect("a small constant") + 1;
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
        if text.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLong(path.into()));
        }
        let value = text.strip_suffix('\n').unwrap_or(&text);
        let value = value.strip_suffix('\r').unwrap_or(value);
        if value.is_empty() {
            return Err(SecretError::Empty(path.into()));
        }
        Ok(Self::new(value))
    }

    /// The secret of an option that may be given as `value` or as the path of a `file`; `None` without both.
    ///
    /// # Errors
    /// Both are given, or the file is refused by [`Secret::read`].
    pub fn resolve(value: Option<&Self>, file: Option<&Path>) -> Result<Option<Self>, SecretError> {
        match (value, file) {
            (Some(_), Some(path)) => Err(SecretError::GivenTwice(path.into())),
            (Some(secret), None) => Ok(Some(secret.clone())),
            (None, Some(path)) => Self::read(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Whether a file with this mode lets more people in than a secret may.
pub(crate) fn is_mode_open(mode: u32) -> bool {
    mode & 0o777 & !SECRET_MODE_MAX != 0
}

/// Why a secret cannot be had. The messages name the file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Opening or reading failed.
    #[error("cannot read the secret in {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// A directory, a device, a pipe.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// The mode is above [`SECRET_MODE_MAX`].
    #[error("{0} holds a secret and has mode {1:04o}: chmod 0640 or less")]
    OpenToOthers(PathBuf, u32),
    /// More than [`SECRET_BYTES_MAX`] bytes.
    #[error("the secret in {0} is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong(PathBuf),
    /// Nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(PathBuf),
    /// The value and the file are both given.
    #[error("the secret is given twice: by value and by the file {0}")]
    GivenTwice(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    /// `writeOnly` is how the loader knows that the file holds a secret.
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true, "minLength": 1 })
    }
}

const HIDDEN: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_shows_the_value() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_file_is_read_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        let rows: [(&str, u32, Result<&str, &str>); 8] = [
            ("hunter2\n", 0o600, Ok("hunter2")),
            ("hunter2\r\n", 0o640, Ok("hunter2")),
            (" two \n\n", 0o400, Ok(" two \n")),
            ("", 0o600, Err("is empty")),
            ("\n", 0o600, Err("is empty")),
            (&long, 0o600, Err("longer than 4096 bytes")),
            ("hunter2", 0o644, Err("has mode 0644: chmod 0640 or less")),
            ("hunter2", 0o660, Err("has mode 0660: chmod 0640 or less")),
        ];
        for (text, mode, expected) in rows {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = Secret::read(&path);
            fs::remove_file(&path).unwrap();
            match (found, expected) {
                (Ok(secret), Ok(expected)) => assert_eq!(secret.reveal(), expected),
                (Err(error), Err(expected)) => {
                    let message = error.to_string();
                    assert!(message.contains(expected), "{message}");
                    assert!(!message.contains("hunter2"), "{message}");
                }
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn missing_files_and_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Secret::read(&directory.path().join("none")).unwrap_err();
        assert!(matches!(missing, SecretError::Unreadable(..)));
        let not_a_file = Secret::read(directory.path()).unwrap_err();
        assert!(matches!(not_a_file, SecretError::NotAFile(..)));
    }

    #[test]
    fn one_place_is_enough() {
        let secret = Secret::new("a");
        assert_eq!(Secret::resolve(None, None).unwrap(), None);
        let found = Secret::resolve(Some(&secret), None).unwrap();
        assert_eq!(found, Some(secret.clone()));
        let both = Secret::resolve(Some(&secret), Some(Path::new("/f"))).unwrap_err();
        assert!(matches!(both, SecretError::GivenTwice(_)));
    }
}
