//! What a read gives back: rows with their key, bind values and the values to be moved.

use std::fmt;

use rekey_domain::BindValue;

use crate::StoredValue;

/// The place of a row in its part, while that keeps its physical form. A primary key may be a name or
/// a record number: errors and logs have the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RowKey {
    /// SQLite's rowid.
    RowId(i64),
    /// PostgreSQL's place of a row version: good while the value that was read there is.
    Tuple {
        /// The block of its part.
        block: u32,
        /// The row's number in the block.
        offset: u16,
    },
}

impl RowKey {
    /// Where the row stands in the order of reading, to compare with others of its part.
    pub fn place(self) -> (i64, u16) {
        match self {
            Self::RowId(id) => (id, 0),
            Self::Tuple { block, offset } => (block.into(), offset),
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowId(id) => write!(f, "rowid {id}"),
            Self::Tuple { block, offset } => write!(f, "ctid ({block},{offset})"),
        }
    }
}

/// A row with at least one value that is not settled. `Debug` shows neither its name nor a bind value.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Its place.
    pub key: RowKey,
    /// What people know it by: its primary key, `id=42`. PHI, perhaps. None: the place has to do.
    pub name: Option<String>,
    /// The bind columns, in the order of the query. None: NULL, or a value that cannot bind.
    pub binds: Vec<Option<BindValue>>,
    /// The protected columns, in the order of the query. None: NULL, or settled.
    pub values: Vec<Option<StoredValue>>,
    /// If the database cannot read the bind columns: its error code. Then nobody knows what the values are bound to.
    pub binds_damaged: Option<String>,
}

impl SourceRow {
    /// How many bytes its values take.
    pub fn size(&self) -> usize {
        self.values.iter().flatten().map(StoredValue::size).sum()
    }
}

impl fmt::Debug for SourceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRow")
            .field("key", &self.key)
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

/// Some rows of a range, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows; may be empty.
    pub rows: Vec<SourceRow>,
    /// Read on with `after` set to this. None: the range is read.
    pub next: Option<i64>,
}
