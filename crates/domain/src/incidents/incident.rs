//! An incident: a thing that happened, which a person takes up and resolves.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoEnumIterator};

use crate::Severity;

/// What happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, EnumIter,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", parse_err_ty = String, parse_err_fn = no_kind)]
pub enum IncidentKind {
    /// A key was reported compromised.
    Compromised,
}

impl IncidentKind {
    /// Each of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// How soon a person is needed.
    pub fn severity(self) -> Severity {
        match self {
            Self::Compromised => Severity::Critical,
        }
    }
}

fn no_kind(text: &str) -> String {
    format!("kind of incident {text:?} is not one of ours")
}

/// How far people have come with an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = no_state)]
pub enum IncidentState {
    /// Nobody has said that they look at it.
    Open,
    /// Somebody looks at it.
    Acknowledged,
    /// It is over, as a person said.
    Resolved,
}

fn no_state(text: &str) -> String {
    format!("state of an incident {text:?} is not one of ours")
}

impl IncidentState {
    /// Whether a person may still be needed.
    pub fn is_open(self) -> bool {
        self != Self::Resolved
    }

    /// Whether the machine has an arrow from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Open, Self::Acknowledged) | (Self::Open | Self::Acknowledged, Self::Resolved)
        )
    }
}
