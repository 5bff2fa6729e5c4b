//! Writing rows by compare-and-swap, in short transactions that wait for nobody.

use rekey_domain::Triggers;
use sqlx::PgConnection;

use super::{
    aftermath::Firing,
    attempt::{Failure, Tried, Written, begin},
    beside::Beside,
    catalogue::Table,
    connections, damage,
    faults::{self, Refusal},
    parts,
    swap::{self, Columns, RowSwap, Side},
    time,
    watched::{Update, Watch},
};
use crate::{
    Deadline, PartUpdates, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place,
};

/// The most rows of a transaction.
const MAX_ROWS: usize = 500;
/// A transaction takes no further row once its values reach this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// How often rows are tried again at once after something appeared that may fire on them.
const LOOKS: usize = 3;

/// Writes all updates, transaction by transaction, in the order of their places.
pub(super) async fn all(
    connection: &mut PgConnection,
    table: &Table,
    target: &WriteTarget,
    updates: &[RowUpdate],
    deadline: Deadline,
    outcomes: &mut [WriteOutcome],
) -> Result<(), SourceError> {
    let only = parts::only(table, &target.part)?;
    let place = Place::new(&table.place.database, &target.part.name);
    let firing = Firing::find(connection, &only, target.triggers, &place).await?;
    let to = To {
        table,
        target,
        only,
        firing,
    };
    to.write(connection, updates, deadline, outcomes).await
}

/// Writes updates of several parts of one table, if nothing fires on any of them. Returns for each part whether all its
/// outcomes are known.
pub(super) async fn together(
    connection: &mut PgConnection,
    table: &Table,
    parts: &[PartUpdates<'_>],
    deadline: Deadline,
    outcomes: &mut [Vec<WriteOutcome>],
) -> Result<Vec<bool>, SourceError> {
    let Some(first) = parts.first() else {
        return Ok(Vec::new());
    };
    let heaps = parts.iter().map(|one| parts::only(table, &one.target.part));
    let heaps = heaps.collect::<Result<Vec<_>, _>>()?;
    let triggers = first.target.triggers;
    let Some(quiet) = Firing::find_none(connection, &heaps, triggers, &table.place).await? else {
        return Ok(vec![true; parts.len()]);
    };
    let mut known = Vec::with_capacity(parts.len());
    for (((part, only), firing), became) in parts.iter().zip(heaps).zip(quiet).zip(outcomes) {
        let to = To {
            table,
            target: part.target,
            only,
            firing,
        };
        // What is wrong with one part is found out by who writes it alone.
        let written = to.write(connection, part.updates, deadline, became).await;
        known.push(written.is_ok());
        if let Err(error) = written {
            tracing::debug!(%error, "a part is to be written alone");
        }
    }
    Ok(known)
}

/// A part to write to.
struct To<'a> {
    table: &'a Table,
    target: &'a WriteTarget,
    only: String,
    firing: Firing,
}

impl To<'_> {
    async fn write(
        self,
        connection: &mut PgConnection,
        updates: &[RowUpdate],
        deadline: Deadline,
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        let Self {
            table,
            target,
            only,
            firing,
        } = self;
        let mut rows = Vec::with_capacity(updates.len());
        let mut columns = Columns::of(table);
        for (index, update) in updates.iter().enumerate() {
            match update.columns.is_empty() {
                true => outcomes[index] = WriteOutcome::Written,
                false => rows.push(RowSwap::new(&mut columns, index, update)?),
            }
        }
        rows.sort_by_key(|row| row.place);
        let place = Place::new(&table.place.database, &target.part.name);
        let mut writer = Writer {
            connection,
            only,
            table,
            place,
            firing,
            target,
            watch: None,
            deadline,
        };
        for chunk in chunks(&rows) {
            writer.write(&chunk, outcomes).await?;
        }
        Ok(())
    }
}

/// Rows that one statement can write, few enough for one transaction.
fn chunks<'a>(rows: &'a [RowSwap<'a>]) -> Vec<Vec<&'a RowSwap<'a>>> {
    let mut open: Vec<(usize, Vec<&RowSwap<'_>>)> = Vec::new();
    let mut full = Vec::new();
    for row in rows {
        let at = open.iter().position(|(_, chunk)| chunk[0].is_like(row));
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
    full.extend(open.into_iter().map(|(_, chunk)| chunk));
    full
}

/// Writes rows of one part.
struct Writer<'a> {
    connection: &'a mut PgConnection,
    only: String,
    table: &'a Table,
    place: Place,
    firing: Firing,
    target: &'a WriteTarget,
    /// Looked up once something fires.
    watch: Option<Watch>,
    deadline: Deadline,
}

impl Writer<'_> {
    async fn write(
        &mut self,
        rows: &[&RowSwap<'_>],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        if self.firing.names.is_empty() {
            return self.write_together(rows, outcomes).await;
        }
        let of = (&*self.only, (self.table, self.target), &self.place);
        let watch = looked_up(&mut self.watch, self.connection, of).await?;
        let bounded = watch.in_bounds(self.connection, (&self.only, &self.place), rows);
        for some in bounded.await? {
            let written = self.write_together(&some, outcomes).await;
            match damage::is_damage(&written) {
                true => self.write_around_damage(&some, outcomes).await?,
                false => written?,
            }
        }
        Ok(())
    }

    /// A value beside cannot be read. In its row values are compared by size: what nobody can read nobody loses.
    async fn write_around_damage(
        &mut self,
        rows: &[&RowSwap<'_>],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        for row in rows {
            let mut written = self.write_together(&[row], outcomes).await;
            if damage::is_damage(&written) {
                self.compare_by_size(true);
                written = self.write_together(&[row], outcomes).await;
                self.compare_by_size(false);
            }
            written?;
        }
        Ok(())
    }

    fn compare_by_size(&mut self, by_size: bool) {
        if let Some(watch) = &mut self.watch {
            watch.compare_by_size(by_size);
        }
    }

    async fn write_together(
        &mut self,
        rows: &[&RowSwap<'_>],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        let mut swapped = self.swap(rows, false, outcomes).await;
        for _ in 0..LOOKS {
            if matches!(swapped, Err(Failure::Came)) {
                swapped = self.swap(rows, false, outcomes).await;
            }
        }
        match swapped {
            // New triggers keep appearing: the rows are left for later.
            Ok(()) | Err(Failure::Came) => Ok(()),
            Err(Failure::Locked) => self.write_unlocked(rows, outcomes).await,
            Err(Failure::Refused(rule)) => self.write_each(rows, rule, outcomes).await,
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Someone holds a lock: those rows are left for later, the others are written.
    async fn write_unlocked(
        &mut self,
        rows: &[&RowSwap<'_>],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        match self.swap(rows, true, outcomes).await {
            // No row is locked, and nothing else can be but the table.
            Err(Failure::Locked) if self.firing.names.is_empty() => Err(SourceError::Busy {
                database: self.table.place.database.to_string(),
                waited_for: faults::A_LOCK.to_owned(),
                held_by: None,
            }),
            // What a trigger touches may be.
            Ok(()) | Err(Failure::Locked | Failure::Came) => Ok(()),
            Err(Failure::Refused(rule)) => self.write_each(rows, rule, outcomes).await,
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// A rule of the database's own refused one of the rows: one by one it shows which.
    async fn write_each(
        &mut self,
        rows: &[&RowSwap<'_>],
        rule: Refusal,
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        if let [row] = rows {
            return Err(self.refused(row, rule));
        }
        for row in rows {
            match self.swap(&[row], true, outcomes).await {
                Ok(()) | Err(Failure::Locked | Failure::Came) => {}
                Err(Failure::Refused(why)) => {
                    return Err(self.refused(row, why));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// One transaction; one statement, unless something has to come before or behind it. A failure on
    /// the way drops it, which rolls it back.
    async fn swap(
        &mut self,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), Failure> {
        // Names are looked up before the session gets the application's search path.
        let fires = !self.firing.names.is_empty();
        if fires {
            let of = (&*self.only, (self.table, self.target), &self.place);
            looked_up(&mut self.watch, self.connection, of).await?;
        }
        let prepared = connections::prepare_update(self.connection).await;
        prepared.map_err(|error| self.failed(&error))?;
        let tried = if fires {
            self.watched(rows, skip_locked).await?
        } else if skip_locked || self.target.triggers == Triggers::Suppress {
            self.transaction(rows, skip_locked).await?
        } else {
            let written = self.update(rows).await;
            Tried::all(rows, written.map_err(|error| self.failed(&error))?)
        };
        for row in rows {
            outcomes[row.index] = tried.outcome(row);
        }
        // A row that came too late looks lost; as time does not run back, this check finds that out. If all rows were
        // written, the last one was in time.
        if tried.written.len() < rows.len() {
            let in_time = time::check(self.connection, self.deadline, &self.place).await;
            in_time.inspect_err(|_| {
                for row in rows
                    .iter()
                    .filter(|row| !tried.written.contains(&row.index))
                {
                    outcomes[row.index] = WriteOutcome::Skipped;
                }
            })?;
        }
        let free = rows.iter().filter(|row| tried.free.contains(&row.index));
        let free: Vec<_> = free.copied().collect();
        if !fires && tried.written.is_empty() && self.has_come(&free).await? {
            rows.iter()
                .for_each(|row| outcomes[row.index] = WriteOutcome::Skipped);
            return Err(Failure::Came);
        }
        Ok(())
    }

    /// Whether a row still holds what was read although the statement wrote none: then a trigger or other code of the
    /// owner appeared, and may be gone again. Reads what there is now.
    async fn has_come(&mut self, rows: &[&RowSwap<'_>]) -> Result<bool, Failure> {
        let places: Vec<_> = rows.iter().map(|row| (*row, row.place)).collect();
        let held = swap::held(
            self.connection,
            &self.only,
            &places,
            Side::Old,
            &Beside::default(),
        )
        .await;
        if held.map_err(|error| self.failed(&error))?.is_empty() {
            return Ok(false);
        }
        self.firing = Firing::find(
            self.connection,
            &self.only,
            self.target.triggers,
            &self.place,
        )
        .await?;
        Ok(true)
    }

    /// The statement alone, if nothing fires on it.
    async fn update<'a>(&mut self, rows: &[&'a RowSwap<'a>]) -> sqlx::Result<Written<'a>> {
        let nothing = self.firing.nothing();
        swap::swap(self.connection, &self.only, rows, self.deadline, &nothing).await
    }

    async fn transaction(
        &mut self,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
    ) -> Result<Tried, Failure> {
        let (only, table, place) = (&self.only, &self.table.place, &self.place);
        let failed = |error| Failure::of(&error, table, place);
        let mut transaction = begin(self.connection, self.target.triggers, table, place).await?;
        let mut free = rows.to_vec();
        if skip_locked {
            let locked = swap::lock(&mut transaction, only, rows, true).await;
            free = locked.map_err(failed)?;
        }
        let nothing = self.firing.nothing();
        let written = swap::swap(&mut transaction, only, &free, self.deadline, &nothing).await;
        let written = written.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Tried::all(&free, written))
    }

    /// If something fires on the update, what it does is looked at.
    async fn watched(
        &mut self,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
    ) -> Result<Tried, Failure> {
        let watch = self
            .watch
            .as_ref()
            .expect("something fires, so it was looked up");
        let update = Update {
            only: &self.only,
            table: &self.table.place,
            place: &self.place,
            firing: &self.firing,
            triggers: self.target.triggers,
            deadline: self.deadline,
        };
        let written = watch.write(self.connection, &update, rows, skip_locked);
        written.await
    }

    fn refused(&self, row: &RowSwap<'_>, refusal: Refusal) -> SourceError {
        let rule = match refusal {
            Refusal::Rule { kind, named } if self.firing.names.is_empty() => match named {
                Some(name) => format!("{kind}, {}", super::names::quote(&name)),
                None => kind.to_owned(),
            },
            Refusal::Rule { kind, .. } => format!("{kind}, or {}", self.firing.by()),
            Refusal::Trigger if self.firing.names.is_empty() => "a trigger".to_owned(),
            Refusal::Trigger => self.firing.by(),
        };
        faults::refused(&row.update.key, rule, &self.place)
    }

    fn failed(&self, error: &sqlx::Error) -> Failure {
        Failure::of(error, &self.table.place, &self.place).by(&self.firing, &self.place)
    }
}

/// What must not be changed, looked up once.
async fn looked_up<'a>(
    watch: &'a mut Option<Watch>,
    connection: &mut PgConnection,
    (only, of, place): (&str, (&Table, &WriteTarget), &Place),
) -> Result<&'a Watch, SourceError> {
    let found = match watch.take() {
        Some(known) => known,
        None => Watch::look_up(connection, only, of, place).await?,
    };
    Ok(watch.insert(found))
}
