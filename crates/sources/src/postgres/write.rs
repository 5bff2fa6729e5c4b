//! Writing rows by compare-and-swap, in short transactions that wait for nobody.

use std::collections::HashSet;

use rekey_domain::Triggers;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::{
    catalogue::Table,
    connections, faults, parts, rights,
    swap::{self, Columns, RowSwap},
    time,
};
use crate::{Deadline, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place};

/// The most rows of a transaction.
const MAX_ROWS: usize = 500;
/// A transaction takes no further row once its values reach this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// Writes all updates, transaction by transaction, in the order of their places.
pub(super) async fn all(
    connection: &mut PgConnection,
    table: &Table,
    target: &WriteTarget,
    updates: &[RowUpdate],
    deadline: Deadline,
) -> Result<Vec<WriteOutcome>, SourceError> {
    let mut rows = Vec::with_capacity(updates.len());
    let mut outcomes = vec![WriteOutcome::Written; updates.len()];
    let mut columns = Columns::of(table);
    let with_columns = updates.iter().enumerate();
    for (index, update) in with_columns.filter(|(_, update)| !update.columns.is_empty()) {
        rows.push(RowSwap::new(&mut columns, index, update)?);
    }
    rows.sort_by_key(|row| row.place);
    let mut writer = Writer {
        connection,
        only: parts::only(table, &target.part)?,
        table: &table.place,
        place: Place::new(&table.place.database, &target.part.name),
        triggers: target.triggers,
        deadline,
    };
    for rows in chunks(&rows) {
        for (index, outcome) in writer.write(&rows).await? {
            outcomes[index] = outcome;
        }
    }
    Ok(outcomes)
}

/// Rows that one statement can write, few enough for one transaction.
fn chunks<'a>(rows: &'a [RowSwap<'a>]) -> Vec<Vec<&'a RowSwap<'a>>> {
    let mut open: Vec<(usize, Vec<&RowSwap<'_>>)> = Vec::new();
    let mut full = Vec::new();
    for row in rows {
        let at = open.iter().position(|(_, rows)| rows[0].is_like(row));
        let at = at.unwrap_or_else(|| {
            open.push((0, Vec::new()));
            open.len() - 1
        });
        let (bytes, chunk) = &mut open[at];
        chunk.push(row);
        *bytes += row.size();
        if chunk.len() >= MAX_ROWS || *bytes >= MAX_BYTES {
            full.push(open.swap_remove(at).1);
        }
    }
    full.extend(open.into_iter().map(|(_, rows)| rows));
    full
}

/// Writes rows of one part.
struct Writer<'a> {
    connection: &'a mut PgConnection,
    only: String,
    table: &'a Place,
    place: Place,
    triggers: Triggers,
    deadline: Deadline,
}

impl Writer<'_> {
    /// What became of each row, by its index in what the caller gave.
    async fn write(
        &mut self,
        rows: &[&RowSwap<'_>],
    ) -> Result<Vec<(usize, WriteOutcome)>, SourceError> {
        match self.swap(rows, false).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failure::Locked) => self.write_unlocked(rows).await,
            Err(Failure::Refused(rule)) => self.write_each(rows, rule).await,
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Someone holds a lock: those rows are left for later, the others are written.
    async fn write_unlocked(
        &mut self,
        rows: &[&RowSwap<'_>],
    ) -> Result<Vec<(usize, WriteOutcome)>, SourceError> {
        match self.swap(rows, true).await {
            Ok(outcomes) => Ok(outcomes),
            // Not the rows are locked but the table, or what a trigger touches.
            Err(Failure::Locked) => Ok(skipped(rows)),
            Err(Failure::Refused(rule)) => self.write_each(rows, rule).await,
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// A rule of the database's own refused one of the rows: one by one it shows which.
    async fn write_each(
        &mut self,
        rows: &[&RowSwap<'_>],
        rule: &'static str,
    ) -> Result<Vec<(usize, WriteOutcome)>, SourceError> {
        if let [row] = rows {
            return Err(faults::refused(&row.update.key, rule, &self.place));
        }
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            outcomes.extend(match self.swap(&[row], true).await {
                Ok(outcomes) => outcomes,
                Err(Failure::Locked) => skipped(&[row]),
                Err(Failure::Refused(rule)) => {
                    return Err(faults::refused(&row.update.key, rule, &self.place));
                }
                Err(Failure::Other(error)) => return Err(error),
            });
        }
        Ok(outcomes)
    }

    /// One transaction; one statement, unless something has to come before it. A failure on the way
    /// drops it, which rolls it back.
    async fn swap(
        &mut self,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
    ) -> Result<Vec<(usize, WriteOutcome)>, Failure> {
        let (only, table, place) = (&self.only, self.table, &self.place);
        let failed = |error| Failure::of(&error, table, place);
        let suppress = self.triggers == Triggers::Suppress;
        let mut free = rows.to_vec();
        let prepared = connections::prepare_update(self.connection);
        prepared.await.map_err(failed)?;
        let written = if skip_locked || suppress {
            let mut transaction = self.connection.begin().await.map_err(failed)?;
            if suppress {
                suppress_triggers(&mut transaction, table, place).await?;
            }
            if skip_locked {
                let locked = swap::lock(&mut transaction, only, rows).await;
                let locked = locked.map_err(failed)?;
                free = locked.iter().filter_map(|at| numbered(rows, *at)).collect();
            }
            let written = swap::swap(&mut transaction, only, &free, self.deadline).await;
            let written = written.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            written
        } else {
            let written = swap::swap(self.connection, only, rows, self.deadline).await;
            written.map_err(failed)?
        };
        // A row that came too late looks lost. Time does not run back, so this finds it out; where
        // all rows were written, the last of them was in time.
        if written.len() < rows.len() {
            time::check(self.connection, self.deadline, place).await?;
        }
        Ok(outcomes(rows, &free, &written))
    }
}

fn outcomes(
    rows: &[&RowSwap<'_>],
    free: &[&RowSwap<'_>],
    written: &[i64],
) -> Vec<(usize, WriteOutcome)> {
    let mut outcomes = Vec::with_capacity(rows.len());
    if free.len() < rows.len() {
        let tried: HashSet<usize> = free.iter().map(|row| row.index).collect();
        outcomes = skipped(rows);
        outcomes.retain(|(index, _)| !tried.contains(index));
    }
    let mut lost: Vec<_> = free
        .iter()
        .map(|row| (row.index, WriteOutcome::Lost))
        .collect();
    for number in written {
        let at = usize::try_from(*number - 1).ok();
        if let Some(outcome) = at.and_then(|at| lost.get_mut(at)) {
            outcome.1 = WriteOutcome::Written;
        }
    }
    outcomes.extend(lost);
    outcomes
}

fn skipped(rows: &[&RowSwap<'_>]) -> Vec<(usize, WriteOutcome)> {
    rows.iter()
        .map(|row| (row.index, WriteOutcome::Skipped))
        .collect()
}

/// PostgreSQL counts from 1.
fn numbered<'r, 'a>(rows: &[&'r RowSwap<'a>], number: i64) -> Option<&'r RowSwap<'a>> {
    rows.get(usize::try_from(number - 1).ok()?).copied()
}

async fn suppress_triggers(
    transaction: &mut Transaction<'_, Postgres>,
    table: &Place,
    place: &Place,
) -> Result<(), Failure> {
    let set = sqlx::query("SET LOCAL session_replication_role = 'replica'");
    match set.execute(&mut **transaction).await {
        Ok(_) => Ok(()),
        Err(error) if faults::is_forbidden(&error) => {
            Err(Failure::Other(rights::may_not_suppress(place)))
        }
        Err(error) => Err(Failure::of(&error, table, place)),
    }
}

/// Why a transaction of ours did not happen.
enum Failure {
    Locked,
    Refused(&'static str),
    Other(SourceError),
}

impl Failure {
    fn of(error: &sqlx::Error, table: &Place, part: &Place) -> Self {
        if faults::is_locked(error) {
            return Self::Locked;
        }
        match faults::refusal(error) {
            Some(rule) => Self::Refused(rule),
            None => Self::Other(faults::of_part(error, table, part)),
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Other(error)
    }
}
