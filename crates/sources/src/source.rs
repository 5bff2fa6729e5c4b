//! The trait every kind of source implements, so that a rotation does not know where rows live.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Found, Range, TextEncoding};

use crate::{Deadline, Page, ReadQuery, RowUpdate, SourceError, TableShape, WriteOutcome};

/// A database of the user's application.
///
/// Every call may fail with what any access can meet: [`SourceError::OutOfReach`],
/// [`SourceError::Busy`], [`SourceError::Database`], and, as the schema may change at any time, with
/// [`SourceError::NoSuchTable`], [`SourceError::NoSuchColumn`], [`SourceError::NotATable`],
/// [`SourceError::NoRowId`].
#[async_trait]
pub trait Source: Send + Sync {
    /// The table's shape, from the catalogue.
    ///
    /// # Errors
    /// If it is missing, or its rows cannot be named.
    async fn describe(&self, relation: &str) -> Result<TableShape, SourceError>;

    /// The next range of about `rows` rows (at least one) after block or rowid `after`; None when
    /// there is no row after it.
    ///
    /// # Errors
    /// As any call.
    async fn next_range(
        &self,
        relation: &str,
        after: Option<i64>,
        rows: u32,
    ) -> Result<Option<Range>, SourceError>;

    /// The rows of the range that have a value that is not settled, after block or rowid `after`.
    /// A page ends when its values reach `max_bytes` bytes, so it holds at least one row if there is
    /// one, and its last row may go beyond.
    ///
    /// # Errors
    /// As any call.
    async fn read(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
    ) -> Result<Page, SourceError>;

    /// The source's own time plus `within`.
    ///
    /// # Errors
    /// As any call.
    async fn deadline(&self, within: Duration) -> Result<Deadline, SourceError>;

    /// Replaces the values of each row that are still what was read: all columns of a row in one
    /// statement, and no other column. One outcome for each update, in order.
    ///
    /// Writes in short transactions, and lets the application in between. After an error the
    /// transactions before it stay written: read again to see which. No commit starts after the
    /// deadline, but one that waits for the application's readers may end later (SQLite: 3 s).
    ///
    /// # Errors
    /// [`SourceError::DeadlinePassed`]; [`SourceError::ReadOnly`], [`SourceError::DiskFull`];
    /// [`SourceError::Refused`] if a rule of the database's own refuses a value;
    /// [`SourceError::NotWritable`] for an update that makes no sense.
    async fn write(
        &self,
        relation: &str,
        updates: &[RowUpdate],
        deadline: Deadline,
    ) -> Result<Vec<WriteOutcome>, SourceError>;

    /// How many values of a column stand under which key, by what their first bytes say, in the
    /// order of [`Found`]. NULLs are not counted.
    ///
    /// # Errors
    /// As any call.
    async fn census(
        &self,
        relation: &str,
        column: &str,
        encoding: TextEncoding,
        range: Range,
    ) -> Result<Vec<(Found, u64)>, SourceError>;
}
