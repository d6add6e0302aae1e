//! What a command answers instead of a result: a text for people, and MongooseIM's code for programs.
use async_graphql::{ErrorExtensions as _, Value};
use protocol::StanzaError;
use tracing::error;

use crate::auth::RegisterError;
use crate::{auth, storage};

/// Why a command did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    code: &'static str,
    message: String,
    more: Vec<(&'static str, Value)>,
}

/// What a command answers where MongooseIM's schema allows null: a failure is told beside it.
pub type Nullable<T> = Option<Result<T, Problem>>;

impl Problem {
    /// With a code of MongooseIM's.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            more: Vec::new(),
        }
    }

    /// With something that programs may want to know.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// A fault of ours (security case G10): what it was stands in the log alone.
    pub fn fault(error: &dyn std::error::Error) -> Self {
        error!(%error, "admin command failed");
        Self::new(
            "resolver_crash",
            "the command failed; the log of the node says why",
        )
    }

    /// What a client would be told.
    pub fn refused(code: &'static str, error: &StanzaError) -> Self {
        let text = error.text.as_deref();
        Self::new(code, text.unwrap_or_else(|| error.condition.name()))
    }

    /// The code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Problem> for async_graphql::Error {
    fn from(problem: Problem) -> Self {
        Self::new(problem.message).extend_with(|_, extensions| {
            for (name, value) in problem.more {
                extensions.set(name, value);
            }
            extensions.set("code", problem.code);
        })
    }
}

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        Self::fault(&error)
    }
}

impl From<auth::Error> for Problem {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::Storage(error) => error.into(),
            overloaded @ auth::Error::Overloaded(_) => {
                Self::new("overloaded", overloaded.to_string())
            }
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        let code = match error {
            RegisterError::Auth(error) => return error.into(),
            RegisterError::Exists => "exists",
            RegisterError::Password => "empty_password",
            RegisterError::Full(_) => "limit_per_domain_exceeded",
            RegisterError::NotStored => "not_allowed",
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Security case G10.
    #[test]
    fn faults_are_told_in_the_log_alone() {
        let inside = std::io::Error::other("SELECT secret FROM /var/lib/db");
        let problem = Problem::fault(&inside).with("jid", "a@b");
        assert_eq!(problem.code(), "resolver_crash");
        let error = async_graphql::Error::from(problem);
        let told = serde_json::to_string(&error).unwrap();
        assert!(!told.contains("SELECT") && !told.contains("lib"), "{told}");
        let extensions = serde_json::to_value(&error.extensions).unwrap();
        let expected = serde_json::json!({ "code": "resolver_crash", "jid": "a@b" });
        assert_eq!(extensions, expected);
    }
}
