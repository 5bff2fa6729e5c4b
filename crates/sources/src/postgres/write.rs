//! Writing rows by compare-and-swap, in short transactions that wait for nobody.

use std::collections::HashSet;

use rekey_domain::Triggers;
use sqlx::{Connection, PgConnection, Postgres, Transaction, postgres::types::Oid};

use super::{
    aftermath::{self, Firing, Stands},
    beside::Beside,
    catalogue::Table,
    connections, damage,
    faults::{self, Located, Refusal},
    parts, rights,
    swap::{self, Columns, RowSwap, Side},
    time,
    tuple::TupleId,
};
use crate::{
    Deadline, PartUpdates, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place,
};

/// The most rows of a transaction.
const MAX_ROWS: usize = 500;
/// A transaction takes no further row once its values reach this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// As many bytes beside what is written are looked at in a transaction.
const MAX_BESIDE: u64 = 32 << 20;

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

/// What must not be changed by what our update sets off.
struct Watch {
    /// The tables with protected columns, ours first.
    tables: Vec<Oid>,
    beside: Beside,
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
        self.look_up().await?;
        for some in self.in_bounds(rows).await? {
            let written = self.write_together(&some, outcomes).await;
            match damage::is_damage(&written) {
                true => self.write_around_damage(&some, outcomes).await?,
                false => written?,
            }
        }
        Ok(())
    }

    /// What stands beside is read while the rows are locked: no more at once than takes a moment.
    async fn in_bounds<'r>(
        &mut self,
        rows: &[&'r RowSwap<'r>],
    ) -> Result<Vec<Vec<&'r RowSwap<'r>>>, SourceError> {
        let watch = self
            .watch
            .as_ref()
            .expect("something fires, so it was looked up");
        let sizes = swap::sizes_beside(self.connection, &self.only, rows, &watch.beside).await;
        let Some(sizes) = sizes.at(&self.place)? else {
            return Ok(vec![rows.to_vec()]);
        };
        let mut groups: Vec<Vec<&RowSwap<'_>>> = Vec::new();
        let mut bytes = 0;
        for row in rows {
            let size = sizes.get(&row.index).copied().unwrap_or_default();
            bytes += size;
            match groups.last_mut() {
                Some(group) if bytes <= MAX_BESIDE => group.push(row),
                _ => {
                    groups.push(vec![row]);
                    bytes = size;
                }
            }
        }
        Ok(groups)
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
            watch.beside.by_size = by_size;
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
            self.look_up().await?;
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

    /// If something fires on the update, its effects are checked before the commit.
    async fn watched(
        &mut self,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
    ) -> Result<Tried, Failure> {
        let (only, table, place) = (&self.only, &self.table.place, &self.place);
        let watch = self
            .watch
            .as_ref()
            .expect("something fires, so it was looked up");
        let (protected, beside) = (&watch.tables, &watch.beside);
        let failed = |error| Failure::of(&error, table, place);
        let mut transaction = begin(self.connection, self.target.triggers, table, place).await?;
        let changed = aftermath::changed(&mut transaction, protected, only).await;
        let changed = changed.map_err(failed)?;
        let locked = swap::lock(&mut transaction, only, rows, skip_locked).await;
        let locked = locked.map_err(failed)?;
        let there = aftermath::before(&mut transaction, only, &locked, beside).await;
        let there = there.map_err(failed)?;
        let to_write: Vec<_> = there.iter().map(|(row, _)| *row).collect();
        let written = swap::swap(&mut transaction, only, &to_write, self.deadline, "true").await;
        let written = written.map_err(failed)?;
        let stands = aftermath::after(&mut transaction, only, &there, &written, beside).await;
        let withheld = match stands.map_err(failed)? {
            Stands::AsWritten { withheld } => withheld,
            Stands::Rewritten(row) => {
                return Err(Failure::Other(SourceError::Rewritten {
                    relation: place.relation.clone(),
                    row: row.update.key,
                    by: self.firing.by(),
                    may_suppress: true,
                }));
            }
            Stands::PutOff => {
                return Err(Failure::Other(SourceError::PutOff {
                    relation: place.relation.clone(),
                    by: self.firing.by(),
                }));
            }
        };
        let now = aftermath::changed(&mut transaction, protected, only).await;
        let now = now.map_err(failed)?;
        if let Some((of, others)) = aftermath::others(&changed, now, written.len()) {
            return Err(Failure::Other(SourceError::ChangesOthers {
                relation: place.relation.clone(),
                by: self.firing.by(),
                of,
                rows: others,
                may_suppress: true,
            }));
        }
        transaction.commit().await.map_err(failed)?;
        let free = if skip_locked { &locked } else { rows };
        Ok(Tried {
            withheld,
            ..Tried::all(free, written)
        })
    }

    /// Looks up what must not be changed, once.
    ///
    /// # Errors
    /// [`SourceError::NoSuchTable`], [`SourceError::NotATable`], [`SourceError::NoSuchColumn`]: under which name a table or
    /// a column stands now, nobody knows, and what fires may change it there.
    async fn look_up(&mut self) -> Result<(), SourceError> {
        if self.watch.is_some() {
            return Ok(());
        }
        let mut tables = vec![self.table.oid];
        for name in &self.target.protected_tables {
            let place = Place::new(&self.table.place.database, name);
            tables.push(Table::find(self.connection, place).await?.oid);
        }
        let of = (self.table, self.target);
        let beside = Beside::of(self.connection, &self.only, of, &self.place).await?;
        self.watch = Some(Watch { tables, beside });
        Ok(())
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
        Failure::of(error, &self.table.place, &self.place)
    }
}

type Written<'a> = Vec<(&'a RowSwap<'a>, TupleId)>;

/// What became of the rows of a transaction, by their indices.
struct Tried {
    /// Those that nobody else had locked.
    free: HashSet<usize>,
    written: HashSet<usize>,
    withheld: HashSet<usize>,
}

impl Tried {
    fn all(free: &[&RowSwap<'_>], written: Written<'_>) -> Self {
        Self {
            free: free.iter().map(|row| row.index).collect(),
            written: written.iter().map(|(row, _)| row.index).collect(),
            withheld: HashSet::new(),
        }
    }

    fn outcome(&self, row: &RowSwap<'_>) -> WriteOutcome {
        let is_in = |rows: &HashSet<usize>| rows.contains(&row.index);
        if is_in(&self.written) {
            WriteOutcome::Written
        } else if is_in(&self.withheld) {
            WriteOutcome::Withheld
        } else if is_in(&self.free) {
            WriteOutcome::Lost
        } else {
            WriteOutcome::Skipped
        }
    }
}

/// A transaction in which triggers are as the table's owner said.
async fn begin<'a>(
    connection: &'a mut PgConnection,
    triggers: Triggers,
    table: &Place,
    place: &Place,
) -> Result<Transaction<'a, Postgres>, Failure> {
    let begun = connection.begin().await;
    let mut transaction = begun.map_err(|error| Failure::of(&error, table, place))?;
    if triggers == Triggers::Suppress {
        suppress_triggers(&mut transaction, table, place).await?;
    }
    Ok(transaction)
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
    /// Nothing was written, as something came that may fire on it.
    Came,
    Refused(Refusal),
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
