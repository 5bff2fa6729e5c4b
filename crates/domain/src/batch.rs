//! A batch: one physical range of one table, and the states it goes through.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A physical range, both ends included: heap blocks on PostgreSQL, rowids on SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The first block or rowid.
    pub first: i64,
    /// The last block or rowid.
    pub last: i64,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BatchState {
    /// Planned, not yet sent.
    Planned,
    /// Sent: a `batch.ready` is in the outbox, in flight or being worked on.
    Dispatched,
    /// Read again and found with nothing below the target but quarantined rows.
    Done,
    /// Out of attempts; `rotations retry` queues it again.
    Failed,
}

impl BatchState {
    /// Whether the batch still has to be done.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Planned | Self::Dispatched)
    }

    /// Whether the machine has an arrow from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use BatchState::*;
        matches!(
            (self, next),
            (Planned, Dispatched) | (Dispatched, Done | Failed) | (Failed, Planned)
        )
    }
}

impl fmt::Display for BatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "PLANNED",
            Self::Dispatched => "DISPATCHED",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
        })
    }
}

impl FromStr for BatchState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Planned, Self::Dispatched, Self::Done, Self::Failed]
            .into_iter()
            .find(|state| state.to_string() == text)
            .ok_or_else(|| format!("batch state {text:?} is not one of ours"))
    }
}
