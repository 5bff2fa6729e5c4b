//! Writing rows by compare-and-swap, in transactions short enough for the application to wait for.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    aftermath::{self, Watched},
    catalogue::Table,
    faults::Located,
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
    let binds = &target.bind_columns;
    let before = aftermath::before(&mut transaction, table, updates, binds).await?;
    let fires = !before.triggers.is_empty();
    let watched = match fires {
        true => Some(Watched::begin(&mut transaction).await.at(place)?),
        false => None,
    };
    let swapped = swap_all(&mut transaction, table, updates, deadline, &before.triggers).await;
    if watched.is_some() {
        Watched::end(&mut transaction).await.at(place)?;
    }
    let mut outcomes = swapped?;
    if let Some(watched) = watched {
        before.check_others(table, updates, &target.protected, &watched)?;
    }
    before
        .after(&mut transaction, table, updates, &mut outcomes)
        .await?;
    // A row that came too late looks lost. Time does not run back, so this finds it out.
    time::check(&mut transaction, deadline, &table.place).await?;
    transaction.commit().await.at(&table.place)?;
    Ok(outcomes)
}

async fn swap_all(
    connection: &mut SqliteConnection,
    table: &Table,
    updates: &[RowUpdate],
    deadline: Deadline,
    triggers: &[String],
) -> Result<Vec<WriteOutcome>, SourceError> {
    let mut outcomes = Vec::with_capacity(updates.len());
    for update in updates {
        outcomes.push(swap(connection, table, update, deadline, triggers).await?);
    }
    Ok(outcomes)
}

/// Replaces the values of one row in one statement, if all of them are still there.
async fn swap(
    connection: &mut SqliteConnection,
    table: &Table,
    update: &RowUpdate,
    deadline: Deadline,
    triggers: &[String],
) -> Result<WriteOutcome, SourceError> {
    if update.columns.is_empty() {
        return Ok(WriteOutcome::Written);
    }
    let RowKey::RowId(rowid) = update.key else {
        return Ok(WriteOutcome::Lost);
    };
    let swaps = swaps(table, update)?;
    let mut query = sqlx::query(AssertSqlSafe(statement(table, &swaps)));
    for swap in &swaps {
        query = bind(query, swap.new);
    }
    query = query.bind(rowid);
    for swap in &swaps {
        query = bind(query, swap.old);
    }
    let done = query.bind(deadline.unix_millis()).execute(connection).await;
    let done = done.at_row(&table.place, &update.key, triggers)?;
    Ok(if done.rows_affected() == 0 {
        WriteOutcome::Lost
    } else {
        WriteOutcome::Written
    })
}

/// `OR ABORT`: a constraint declared `ON CONFLICT REPLACE` must not delete another row for ours.
fn statement(table: &Table, swaps: &[Swap<'_>]) -> String {
    let (name, rowid, in_time) = (table.sql(), table.rowid(), time::BEFORE_DEADLINE);
    let new: Vec<_> = swaps.iter().map(|s| format!("{} = ?", s.column)).collect();
    let old: Vec<_> = swaps.iter().map(|swap| swap.holds(swap.old)).collect();
    let (new, old) = (new.join(", "), old.join(" AND "));
    format!("UPDATE OR ABORT {name} SET {new} WHERE {rowid} = ? AND {old} AND {in_time}")
}
