//! Writing rows by compare-and-swap, in transactions short enough for the application to wait for.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    aftermath::{self, Before},
    catalogue::Table,
    faults::Located,
    indexes,
    swap::{Swap, bind, swaps},
    time, triggers,
    turns::{Turn, Turns},
    watched::{Watched, Watching},
};
use crate::{Deadline, RowKey, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place};

/// The most rows of a transaction.
const MAX_ROWS: usize = 250;
/// The same where triggers fire on rows with several protected columns.
const MAX_ROWS_WATCHED: usize = 25;
/// A transaction takes no further row once its values reach this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// Writes all updates, transaction by transaction.
pub(super) async fn all(
    connection: &mut SqliteConnection,
    place: &Place,
    target: &WriteTarget,
    turns: &Turns,
    updates: &[RowUpdate],
    deadline: Deadline,
    outcomes: &mut [WriteOutcome],
) -> Result<(), SourceError> {
    let mut done = 0;
    // With everything beside it a row may be large, and all of it is read under the lock.
    let others = target.protected_columns.len() + target.other_columns.len();
    let most = match others > 1 && fires(connection, place).await? {
        true => MAX_ROWS_WATCHED,
        false => MAX_ROWS,
    };
    while done < updates.len() {
        let now = &updates[done..][..transaction_len(&updates[done..], most)];
        let turn = turns.take().await;
        let became = transaction(connection, place, target, turn, now, deadline).await?;
        outcomes[done..][..now.len()].copy_from_slice(&became);
        done += now.len();
    }
    Ok(())
}

async fn fires(connection: &mut SqliteConnection, place: &Place) -> Result<bool, SourceError> {
    let table = Table::find(connection, place.clone()).await?;
    Ok(!triggers::of_updates(connection, &table).await?.is_empty())
}

/// How many of `updates` the next transaction takes; at least one.
fn transaction_len(updates: &[RowUpdate], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |update: &&RowUpdate| {
        let room = bytes < MAX_BYTES;
        bytes += update.size();
        room
    };
    updates.iter().take(most).take_while(fits).count()
}

/// One transaction. An error on the way drops it, which rolls it back.
async fn transaction(
    connection: &mut SqliteConnection,
    place: &Place,
    target: &WriteTarget,
    mut turn: Turn<'_>,
    updates: &[RowUpdate],
    deadline: Deadline,
) -> Result<Vec<WriteOutcome>, SourceError> {
    // IMMEDIATE: a transaction that reads first would fail at once when the application writes.
    let begin = connection.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begin.at(place)?;
    turn.locked();
    // As it is now: nobody else alters it from here on. What was read may stand in another column by now.
    let table = &Table::find(&mut transaction, place.clone()).await?;
    table.check_part(&target.part)?;
    let before = aftermath::before(&mut transaction, table, updates, target).await?;
    let fires = !before.triggers.is_empty();
    let may_replace = !fires || indexes::may_replace(&mut transaction, table).await?;
    let to = To {
        table,
        deadline,
        triggers: &before.triggers,
        may_replace,
    };
    let mut outcomes = match fires {
        true => watched(&mut transaction, &to, updates, &before).await?,
        false => to.swap_all(&mut transaction, updates).await?,
    };
    before
        .after(&mut transaction, table, updates, &mut outcomes)
        .await?;
    // A row that came too late looks lost. Time does not run back, so this finds it out.
    time::check(&mut transaction, deadline, &table.place).await?;
    transaction.commit().await.at(&table.place)?;
    Ok(outcomes)
}

/// Swaps, and sees that what fires changes no other row of a protected table.
async fn watched(
    connection: &mut SqliteConnection,
    to: &To<'_>,
    updates: &[RowUpdate],
    before: &Before,
) -> Result<Vec<WriteOutcome>, SourceError> {
    let table = to.table;
    let set = sqlx::raw_sql("SAVEPOINT unwritten").execute(&mut *connection);
    set.await.at(&table.place)?;
    let (outcomes, seen) = under_watch(connection, to, updates).await?;
    before.check_others(table, updates, &seen)?;
    if !before.may_be_untold(table, &seen) {
        return Ok(outcomes);
    }
    let back = sqlx::raw_sql("ROLLBACK TO unwritten").execute(&mut *connection);
    back.await.at(&table.place)?;
    between_counts(connection, to, updates, before).await
}

/// Once more, and the rows of all protected tables are counted before and after.
async fn between_counts(
    connection: &mut SqliteConnection,
    to: &To<'_>,
    updates: &[RowUpdate],
    before: &Before,
) -> Result<Vec<WriteOutcome>, SourceError> {
    let table = to.table;
    let rows = before.count(connection, table).await?;
    let (outcomes, seen) = under_watch(connection, to, updates).await?;
    before.check_others(table, updates, &seen)?;
    let now = before.count(connection, table).await?;
    before.check_counts(table, (&rows, &now), &seen)?;
    Ok(outcomes)
}

async fn under_watch(
    connection: &mut SqliteConnection,
    to: &To<'_>,
    updates: &[RowUpdate],
) -> Result<(Vec<WriteOutcome>, Watched), SourceError> {
    let place = &to.table.place;
    let watching = Watching::begin(connection).await.at(place)?;
    let swapped = to.swap_all(connection, updates).await;
    let watched = watching.end(connection).await.at(place)?;
    Ok((swapped?, watched))
}

/// Where rows are written, and what fires there.
struct To<'a> {
    table: &'a Table,
    deadline: Deadline,
    triggers: &'a [String],
    /// Whether a constraint of the table may delete another row for ours.
    may_replace: bool,
}

impl To<'_> {
    async fn swap_all(
        &self,
        connection: &mut SqliteConnection,
        updates: &[RowUpdate],
    ) -> Result<Vec<WriteOutcome>, SourceError> {
        let mut outcomes = Vec::with_capacity(updates.len());
        for update in updates {
            outcomes.push(self.swap(connection, update).await?);
        }
        Ok(outcomes)
    }

    /// Replaces the values of one row in one statement, if all of them are still there.
    async fn swap(
        &self,
        connection: &mut SqliteConnection,
        update: &RowUpdate,
    ) -> Result<WriteOutcome, SourceError> {
        if update.columns.is_empty() {
            return Ok(WriteOutcome::Written);
        }
        let RowKey::RowId(rowid) = update.key else {
            return Ok(WriteOutcome::Lost);
        };
        let swaps = swaps(self.table, update)?;
        let mut query = sqlx::query(AssertSqlSafe(self.statement(&swaps)));
        for swap in &swaps {
            query = bind(query, swap.new);
        }
        query = query.bind(rowid);
        for swap in &swaps {
            query = bind(query, swap.old);
        }
        let in_time = query.bind(self.deadline.unix_millis());
        let done = in_time.execute(connection).await;
        let done = done.at_row(&self.table.place, &update.key, self.triggers)?;
        Ok(if done.rows_affected() == 0 {
            WriteOutcome::Lost
        } else {
            WriteOutcome::Written
        })
    }

    fn statement(&self, swaps: &[Swap<'_>]) -> String {
        let (name, rowid) = (self.table.sql(), self.table.rowid());
        let (or_abort, in_time) = (self.or_abort(), time::BEFORE_DEADLINE);
        let new: Vec<_> = swaps.iter().map(|s| format!("{} = ?", s.column)).collect();
        let old: Vec<_> = swaps.iter().map(|swap| swap.holds(swap.old)).collect();
        let (new, old) = (new.join(", "), old.join(" AND "));
        format!("UPDATE{or_abort} {name} SET {new} WHERE {rowid} = ? AND {old} AND {in_time}")
    }

    /// A constraint declared `ON CONFLICT REPLACE` must not delete another row for ours. Where none is, nothing is
    /// said: it would take the place of what the statements of triggers say, as `INSERT OR REPLACE` into a journal.
    fn or_abort(&self) -> &'static str {
        match self.may_replace {
            true => " OR ABORT",
            false => "",
        }
    }
}
