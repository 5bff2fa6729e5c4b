//! Writing rows by compare-and-swap, in transactions short enough for the application to wait for.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    aftermath::{self, Watched},
    catalogue::Table,
    faults::Located,
    indexes,
    swap::{Swap, bind, swaps},
    time,
    turns::{Turn, Turns},
};
use crate::{Deadline, RowKey, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place};

/// The most rows of a transaction.
const MAX_ROWS: usize = 250;
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
    while done < updates.len() {
        let now = &updates[done..][..transaction_len(&updates[done..])];
        let turn = turns.take().await;
        let became = transaction(connection, place, target, turn, now, deadline).await?;
        outcomes[done..][..now.len()].copy_from_slice(&became);
        done += now.len();
    }
    Ok(())
}

/// How many of `updates` the next transaction takes; at least one.
fn transaction_len(updates: &[RowUpdate]) -> usize {
    let mut bytes = 0;
    let fits = |update: &&RowUpdate| {
        let room = bytes < MAX_BYTES;
        bytes += update.size();
        room
    };
    updates.iter().take(MAX_ROWS).take_while(fits).count()
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
    let watched = match fires {
        true => Some(Watched::begin(&mut transaction).await.at(place)?),
        false => None,
    };
    let unique = match fires {
        true => indexes::unique(&mut transaction, table).await?,
        false => table
            .shape
            .columns
            .iter()
            .map(|one| one.name.clone())
            .collect(),
    };
    let to = To {
        table,
        deadline,
        triggers: &before.triggers,
        unique: &unique,
    };
    let swapped = to.swap_all(&mut transaction, updates).await;
    if watched.is_some() {
        Watched::end(&mut transaction).await.at(place)?;
    }
    let mut outcomes = swapped?;
    if let Some(watched) = watched {
        before.check_others(table, updates, &target.protected_tables, &watched)?;
    }
    before
        .after(&mut transaction, table, updates, &mut outcomes)
        .await?;
    // A row that came too late looks lost. Time does not run back, so this finds it out.
    time::check(&mut transaction, deadline, &table.place).await?;
    transaction.commit().await.at(&table.place)?;
    Ok(outcomes)
}

/// Where rows are written, and what fires there.
struct To<'a> {
    table: &'a Table,
    deadline: Deadline,
    triggers: &'a [String],
    /// Columns whose values a constraint or an index may keep unique.
    unique: &'a [String],
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
        let mut query = sqlx::query(AssertSqlSafe(self.statement(update, &swaps)));
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

    fn statement(&self, update: &RowUpdate, swaps: &[Swap<'_>]) -> String {
        let (name, rowid) = (self.table.sql(), self.table.rowid());
        let (or_abort, in_time) = (self.or_abort(update), time::BEFORE_DEADLINE);
        let new: Vec<_> = swaps.iter().map(|s| format!("{} = ?", s.column)).collect();
        let old: Vec<_> = swaps.iter().map(|swap| swap.holds(swap.old)).collect();
        let (new, old) = (new.join(", "), old.join(" AND "));
        format!("UPDATE{or_abort} {name} SET {new} WHERE {rowid} = ? AND {old} AND {in_time}")
    }

    /// A constraint declared `ON CONFLICT REPLACE` must not delete another row for ours. Where none can, nothing is
    /// said: it would take the place of what the statements of triggers say, as `INSERT OR REPLACE` into a journal.
    fn or_abort(&self, update: &RowUpdate) -> &'static str {
        let is_unique = |name: &str| self.unique.iter().any(|one| one.eq_ignore_ascii_case(name));
        match update.columns.iter().any(|one| is_unique(&one.name)) {
            true => " OR ABORT",
            false => "",
        }
    }
}
