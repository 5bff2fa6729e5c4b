//! The trait every kind of source implements, so that a rotation does not know where rows live.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Limits, Load, Part, Range};

use crate::{
    CensusColumn, Counted, Deadline, Inspect, Page, PartUpdates, PassToShow, ReadQuery, RowUpdate,
    SourceError, TableRights, TableShape, WriteOutcome, WriteTarget,
};

/// A database of the user's application.
///
/// Every call may fail with what any access can meet: [`SourceError::OutOfReach`],
/// [`SourceError::Busy`], [`SourceError::Database`], and, as the schema may change at any time, with
/// [`SourceError::NoSuchTable`], [`SourceError::NoSuchColumn`], [`SourceError::NotATable`],
/// [`SourceError::NoRowId`], [`SourceError::NotAllowed`].
#[async_trait]
pub trait Source: Inspect {
    /// The table's shape, from the catalogue.
    ///
    /// # Errors
    /// If it is missing, its rows cannot be named, or some of them lie on another server.
    async fn describe(&self, relation: &str) -> Result<TableShape, SourceError>;

    /// The physical heaps that the table's rows lie in now, in the order of their names: on
    /// PostgreSQL each partition and each table that inherits, on SQLite the table itself.
    ///
    /// # Errors
    /// [`SourceError::ForeignPart`] where one of them lies on another server; [`SourceError::Standby`]:
    /// a standby may lag behind; as any call.
    async fn parts(&self, relation: &str) -> Result<Vec<Part>, SourceError>;

    /// The next range of about `rows` rows (at least one) of a part, after block or rowid `after`
    /// and up to the part's end; None when there is nothing left.
    ///
    /// # Errors
    /// As any call.
    async fn next_range(
        &self,
        relation: &str,
        part: &Part,
        after: Option<i64>,
        rows: u32,
    ) -> Result<Option<Range>, SourceError>;

    /// The rows of the range that have a value that is not settled, in the order of their places,
    /// from where the page before ended (`after` is its `next`). A page ends when its values reach
    /// `max_bytes` bytes, so it holds at least one row if there is one, and its last row may go
    /// beyond.
    ///
    /// # Errors
    /// [`SourceError::PartChanged`] when the part is no longer what the query names: what was read
    /// proves nothing of the table's rows.
    async fn read(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
    ) -> Result<Page, SourceError>;

    /// Reads several parts of one table from the start of their ranges, as [`read`](Self::read) does, in few statements
    /// if they are many and small. None: the part must be read alone, because its values are long, because the parts
    /// before it reach `max_bytes` bytes, or because this source cannot read parts together.
    ///
    /// # Errors
    /// As any call; of which part, who reads it alone is told.
    async fn read_together(
        &self,
        queries: &[ReadQuery],
        max_bytes: usize,
    ) -> Result<Vec<Option<Page>>, SourceError> {
        let _ = max_bytes;
        Ok(vec![None; queries.len()])
    }

    /// Sees that our rights are enough, without reading or changing a row.
    ///
    /// # Errors
    /// [`SourceError::NotAllowed`] names what is missing, as SQL; [`SourceError::ReadOnly`] where there
    /// are no such rights.
    async fn check_rights(&self, needed: &TableRights) -> Result<(), SourceError>;

    /// The source's own time plus `within`.
    ///
    /// # Errors
    /// As any call.
    async fn deadline(&self, within: Duration) -> Result<Deadline, SourceError>;

    /// Replaces a row's values if they are still what was read: all columns of a row in one statement, and no other
    /// column. All rows are of the target's part. If that was rewritten since, its rows are not found and count as
    /// lost; SQLite refuses the write instead.
    ///
    /// Writes in short transactions, and lets the application in between. `outcomes` has one for each
    /// update, in order, and says [`WriteOutcome::Skipped`] before; after an error it tells what the
    /// transactions before it wrote. A crash of the database may take back what was written until
    /// [`flush`](Self::flush). No commit starts after the deadline, but one that waits for the
    /// application's readers may end later (SQLite: 3 s).
    ///
    /// # Errors
    /// [`SourceError::DeadlinePassed`]; [`SourceError::PartChanged`]; [`SourceError::ReadOnly`], [`SourceError::Standby`],
    /// [`SourceError::NotAllowed`], [`SourceError::DiskFull`];
    /// [`SourceError::Refused`] if a rule of the database's own refuses a value;
    /// [`SourceError::Rewritten`] if one changes it;
    /// [`SourceError::NotWritable`] for an update that makes no sense.
    async fn write_into(
        &self,
        target: &WriteTarget,
        updates: &[RowUpdate],
        deadline: Deadline,
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError>;

    /// Writes to several parts of one table, as [`write_into`](Self::write_into) does, in few statements if they are
    /// many and small. Returns for each part whether all its outcomes are known; otherwise some of its rows may be
    /// written although they say skipped. A part of which not all rows are [`WriteOutcome::Written`] must be looked at
    /// alone.
    ///
    /// # Errors
    /// As any call; then nothing was written.
    async fn write_together(
        &self,
        parts: &[PartUpdates<'_>],
        deadline: Deadline,
        outcomes: &mut [Vec<WriteOutcome>],
    ) -> Result<Vec<bool>, SourceError> {
        let _ = (deadline, outcomes);
        Ok(vec![true; parts.len()])
    }

    /// The same, for who needs to know nothing of what came before an error.
    ///
    /// # Errors
    /// As [`write_into`](Self::write_into).
    async fn write(
        &self,
        target: &WriteTarget,
        updates: &[RowUpdate],
        deadline: Deadline,
    ) -> Result<Vec<WriteOutcome>, SourceError> {
        let mut outcomes = vec![WriteOutcome::Skipped; updates.len()];
        self.write_into(target, updates, deadline, &mut outcomes)
            .await?;
        Ok(outcomes)
    }

    /// Waits until all that was read before this call outlives a crash of the database, whoever
    /// committed it: we here or in a process that died, or the application without waiting for the disk.
    /// Only then may anyone be told that nothing was left to do.
    ///
    /// # Errors
    /// [`SourceError::Standby`]; as any call.
    async fn flush(&self) -> Result<(), SourceError>;

    /// How many values of each column are under which key, by their form and first bytes, in the order of
    /// [`Found`](rekey_domain::Found); over all parts, as of one moment. NULLs are not counted. For a pass, also how
    /// many values below the target are ones that it had to leave. What was counted is flushed.
    ///
    /// # Errors
    /// [`SourceError::Standby`]: a standby may lag behind; [`SourceError::PartChanged`] where a part was
    /// written anew since that moment, and may look empty: count again;
    /// [`SourceError::OpenTransactions`] where the pass has a fence, and something that was open then
    /// still is; [`SourceError::FenceLost`].
    async fn census(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        pass: Option<&PassToShow>,
    ) -> Result<Vec<Vec<Counted>>, SourceError>;

    /// Whether what the URL names is another database than when this was opened: then it is to be opened anew, which
    /// tells whether that is the one meant.
    fn is_another(&self) -> bool {
        false
    }

    /// Whether the database takes writes from us at all, whatever table they are for.
    ///
    /// # Errors
    /// [`SourceError::Standby`]; as any call.
    async fn takes_writes(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Who holds locks that keep us from the table's rows, in words for people; None where nobody does, or
    /// the database does not tell.
    ///
    /// # Errors
    /// As any call.
    async fn holders(&self, relation: &str) -> Result<Option<String>, SourceError>;

    /// A mark of this moment, for [`PassToShow::fence`]. A census does not see what transactions open now will write
    /// until they end.
    ///
    /// # Errors
    /// As any call.
    async fn fence(&self) -> Result<String, SourceError>;

    /// Sees that whatever was open at the mark is over: what it wrote is read from now on.
    ///
    /// # Errors
    /// [`SourceError::OpenTransactions`] where something still is; [`SourceError::FenceLost`]; as any call.
    async fn behind(&self, fence: &str) -> Result<(), SourceError>;

    /// How the database and the table are, as far as `limits` ask for it.
    ///
    /// # Errors
    /// [`SourceError::NotAllowed`] where our role may not know; as any call.
    async fn load(&self, relation: &str, limits: &Limits) -> Result<Load, SourceError>;
}
