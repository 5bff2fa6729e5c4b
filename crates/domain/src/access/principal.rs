//! Who does something: an operator, an application, a worker, a schedule.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// A principal that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("principal {found:?}: expected KIND:NAME with KIND one of os, amqp, app, worker, schedule")]
pub struct PrincipalError {
    /// What was given.
    pub found: String,
}

/// What kind of one a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum PrincipalKind {
    /// The account that runs the command line.
    Os,
    /// A user of the message broker who publishes requests.
    Amqp,
    /// An application that encrypts and decrypts.
    App,
    /// One of our workers.
    Worker,
    /// A schedule that came due.
    Schedule,
}

/// Who asks. Written `os:ana@clinic-1`, `worker:rotator`, `schedule:phi`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Principal {
    /// What kind of one it is.
    pub kind: PrincipalKind,
    /// Its name among those of its kind.
    pub name: String,
}

impl Principal {
    /// The account that runs the command line.
    pub fn os(user: &str, host: &str) -> Self {
        Self::new(PrincipalKind::Os, format!("{user}@{host}"))
    }

    /// A user of the message broker who publishes requests.
    pub fn amqp(name: &str) -> Self {
        Self::new(PrincipalKind::Amqp, name)
    }

    /// An application that encrypts and decrypts.
    pub fn app(name: &str) -> Self {
        Self::new(PrincipalKind::App, name)
    }

    /// One of our workers.
    pub fn worker(name: &str) -> Self {
        Self::new(PrincipalKind::Worker, name)
    }

    /// A schedule that came due.
    pub fn schedule(name: &str) -> Self {
        Self::new(PrincipalKind::Schedule, name)
    }

    fn new(kind: PrincipalKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let readable = |name: &str| {
            !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control)
        };
        let parts = text.split_once(':');
        match parts.and_then(|(kind, name)| Some((kind.parse().ok()?, name))) {
            Some((kind, name)) if readable(name) => Ok(Self::new(kind, name)),
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
        principal.to_string()
    }
}
