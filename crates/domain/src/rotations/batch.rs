//! A batch: one physical range of one table, and the states it goes through.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// A write may start this long after its page was read. The batch's lease still lasts at least as long, whenever it was
/// last renewed, so a process that was stopped for longer writes nothing.
pub const WRITE_WITHIN: Duration = Duration::from_secs(10);

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

/// What names one of the physical heaps that a table's rows lie in, as it was at one time.
///
/// A heap that was written anew (`VACUUM FULL`, a repack) is another part under the same name: its
/// rows lie in other places.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartId {
    /// Its name: the table, or one of its partitions.
    pub name: String,
    /// Its physical form; another one after it was written anew.
    pub form: String,
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A part of a table, and how far it reached when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What names it.
    pub id: PartId,
    /// Its last block or rowid; None while it is empty. What is written behind it later is a new
    /// row, or a row that its application moved there.
    pub end: Option<i64>,
    /// About how many rows a block holds, at least one; of no use where ranges are rowids.
    pub rows_per_block: u32,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = no_batch_state)]
pub enum BatchState {
    /// Planned, not yet sent.
    Planned,
    /// Sent: a `batch.ready` is in the outbox, in flight or being worked on.
    Dispatched,
    /// Read again and found with nothing below the target but quarantined rows.
    Done,
    /// Out of attempts; `rotations retry` queues it again.
    Failed,
    /// Its part is gone or was written anew: nothing was proved of its range, and the part as it is
    /// now is planned again.
    Void,
}

fn no_batch_state(text: &str) -> String {
    format!("batch state {text:?} is not one of ours")
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
            // A small part's is done beside the batch that leads it.
            (Planned, Dispatched | Done | Void)
                | (Dispatched, Done | Failed | Void)
                | (Failed, Planned)
        )
    }
}
