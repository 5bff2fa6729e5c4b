//! A plan as people and programs see it.

use rekey_domain::{Basis, Finding, KeyName, KeyringName, KmsCalls, Triggers};
use serde::Serialize;
use uuid::Uuid;

use crate::Opening;

/// What a rotation of a keyring would do.
#[derive(Debug, Clone, Serialize)]
pub struct RotationPlan {
    /// The keyring.
    pub keyring: KeyringName,
    /// The key that rows would move to: its standby, if it has one.
    pub target: Option<KeyName>,
    /// Its tables, those that could be looked at.
    pub tables: Vec<TablePlan>,
    /// Whether these are all.
    pub complete: bool,
    /// Values to move.
    pub values: u64,
    /// Bytes of write-ahead log or journal, over all tables.
    pub wal_bytes: u64,
    /// Bytes by which files grow, over all tables.
    pub bloat_bytes: u64,
    /// How long moving takes, without what a rotation waits for before and after.
    pub time: TimePlan,
    /// Requests to the KMS.
    pub kms: KmsCalls,
    /// Encryptions under the target.
    pub encryptions: Encryptions,
    /// What stands in the way, and what is good to know.
    pub findings: Vec<Finding>,
}

/// What a rotation would do to a table.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// `source.table`.
    pub table: String,
    /// Its name in its database.
    pub relation: String,
    /// Its heaps.
    pub parts: u64,
    /// Its rows.
    pub rows: u64,
    /// How rows and values were found; sizes of files are always the catalogue's.
    pub found: Basis,
    /// Bytes of the places where rows lie.
    pub heap_bytes: u64,
    /// Bytes of wide values that lie apart.
    pub toast_bytes: u64,
    /// Bytes of its indexes; on SQLite of those that our writes change.
    pub index_bytes: u64,
    /// Bytes of write-ahead log or journal that are expected.
    pub wal_bytes: u64,
    /// Bytes by which its files grow until they are vacuumed.
    pub bloat_bytes: u64,
    /// The share of our updates that is expected to touch no index; null where there is no such thing.
    pub hot_expected: Option<f64>,
    /// The same of its updates so far; null where there were none.
    pub hot_so_far: Option<f64>,
    /// Triggers and rules that fire on updates.
    pub update_triggers: Vec<String>,
    /// What becomes of them: `fire`, `suppress`, or null where nothing was said.
    pub triggers: Option<Triggers>,
    /// Publications that send updates on.
    pub publications: Vec<String>,
    /// Replication slots of its database.
    pub replication_slots: Vec<String>,
    /// Its protected columns of this keyring.
    pub columns: Vec<ColumnPlan>,
}

/// What a rotation would do to a column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// Its name.
    pub column: String,
    /// Values to move.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The indexes that it is part of.
    pub indexes: Vec<String>,
    /// Values that were opened as the rotation would; those that do not open are not among `values` where
    /// all were tried.
    #[serde(rename = "opened")]
    pub opening: Opening,
}

/// How long moving the values takes.
#[derive(Debug, Clone, Serialize)]
pub struct TimePlan {
    /// Seconds; null where nothing was measured yet, or not all could be looked at.
    pub seconds: Option<u64>,
    /// Values a second, as they were once moved.
    pub values_per_second: Option<f64>,
    /// The rotation that this was measured at.
    pub rotation: Option<Uuid>,
    /// Where the figure comes from, and what it takes for granted.
    pub assumption: String,
}

/// Encryptions under the target, beside the limit that a plan must fit in.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Encryptions {
    /// Made already.
    pub used: u64,
    /// Of this rotation.
    pub planned: u64,
    /// At most.
    pub limit: u64,
}
