//! Who does something: an operator, an application, a worker, a schedule.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A principal that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("principal {found:?}: expected KIND:NAME with KIND one of os, amqp, app, worker, schedule")]
pub struct PrincipalError {
    /// What was given.
    pub found: String,
}

/// Who asks. Written `os:ana@clinic-1`, `worker:rotator`, `schedule:phi`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Principal(String);

impl Principal {
    /// The account that runs the command line.
    pub fn os(user: &str, host: &str) -> Self {
        Self(format!("os:{user}@{host}"))
    }

    /// A user of the message broker who publishes requests.
    pub fn amqp(name: &str) -> Self {
        Self(format!("amqp:{name}"))
    }

    /// An application that encrypts and decrypts.
    pub fn app(name: &str) -> Self {
        Self(format!("app:{name}"))
    }

    /// One of our workers.
    pub fn worker(name: &str) -> Self {
        Self(format!("worker:{name}"))
    }

    /// A schedule that came due.
    pub fn schedule(name: &str) -> Self {
        Self(format!("schedule:{name}"))
    }

    /// The principal as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let known = |kind: &str| ["os", "amqp", "app", "worker", "schedule"].contains(&kind);
        let readable = |name: &str| {
            !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control)
        };
        match text.split_once(':') {
            Some((kind, name)) if known(kind) && readable(name) => Ok(Self(text.to_owned())),
            _ => Err(PrincipalError {
                found: text.chars().take(200).collect(),
            }),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = PrincipalError;

    fn try_from(text: String) -> Result<Self, PrincipalError> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.0
    }
}
