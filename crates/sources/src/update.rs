//! What a write takes and gives: where, new values against the ones they replace, and a deadline.

use std::sync::Arc;

use rekey_domain::{PartId, TextEncoding, Triggers};

use crate::{RowKey, StoredValue};

/// Where to write, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTarget {
    /// The table in the database.
    pub relation: String,
    /// The part that all rows are of.
    pub part: PartId,
    /// What becomes of the table's UPDATE triggers and rules.
    pub triggers: Triggers,
    /// All protected columns of the table, of whatever keyring: what our update sets off may not change their values.
    pub protected_columns: Vec<String>,
    /// The columns that values of these are bound to: what our update sets off may not change them.
    pub bind_columns: Vec<String>,
    /// Columns of both kinds of other tables of the database. Such a table may be the same rows under another name, or a
    /// part of them may have the column besides.
    pub other_columns: Vec<String>,
    /// All tables of the database with protected columns. What our update sets off may not change or delete other rows
    /// of theirs, as nobody could tell what became of their values.
    pub protected_tables: Vec<String>,
}

/// All changes of one row; they are written together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowUpdate {
    /// The row.
    pub key: RowKey,
    /// Its columns, each once; never empty.
    pub columns: Vec<ColumnUpdate>,
}

impl RowUpdate {
    /// How many bytes its new values take.
    pub fn size(&self) -> usize {
        self.columns.iter().map(|column| column.new.size()).sum()
    }
}

/// A value to be replaced, if it is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnUpdate {
    /// The column in the database; the same for each row of a page.
    pub name: Arc<str>,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// What was read; bytes or text.
    pub old: StoredValue,
    /// What replaces it; as `encoding` says.
    pub new: StoredValue,
}

/// What became of one [`RowUpdate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// All its columns hold the new values.
    Written,
    /// Something that was read is no longer there; nothing was overwritten.
    Lost,
    /// A trigger or a rule of the user's kept the update from the row, which is as it was.
    Withheld,
    /// The application holds a lock on the row; it is as it was, and can be tried again a little
    /// later.
    Skipped,
}

/// The last moment of a write, in the source's own time; from [`Source::deadline`].
///
/// [`Source::deadline`]: crate::Source::deadline
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(i64);

impl Deadline {
    /// The moment this many milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }
}

/// Updates of rows of one part.
#[derive(Debug, Clone, Copy)]
pub struct PartUpdates<'a> {
    /// The part.
    pub target: &'a WriteTarget,
    /// One update a row.
    pub updates: &'a [RowUpdate],
}
