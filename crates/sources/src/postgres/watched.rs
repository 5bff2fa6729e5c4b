//! An update that sets something off: what it must leave alone is looked at before and after, and if that was changed
//! nothing is committed.

use rekey_domain::Triggers;
use sqlx::{PgConnection, postgres::types::Oid};

use super::{
    aftermath::{self, Firing, Stands},
    attempt::{Failure, Tried, begin},
    beside::Beside,
    catalogue::Table,
    faults::Located,
    swap::{self, RowSwap},
};
use crate::{Deadline, SourceError, WriteTarget, place::Place};

/// As many bytes beside what is written are looked at in a transaction.
const MAX_BESIDE: u64 = 32 << 20;

/// What must not be changed by what our update sets off.
pub(super) struct Watch {
    /// The tables with protected columns, ours first.
    tables: Vec<Oid>,
    beside: Beside,
}

/// An update of some rows of a heap.
pub(super) struct Update<'a> {
    pub(super) only: &'a str,
    pub(super) table: &'a Place,
    pub(super) place: &'a Place,
    pub(super) firing: &'a Firing,
    pub(super) triggers: Triggers,
    pub(super) deadline: Deadline,
}

impl Watch {
    /// Looks up what must not be changed.
    ///
    /// # Errors
    /// [`SourceError::NoSuchTable`], [`SourceError::NotATable`], [`SourceError::NoSuchColumn`]: under which name a table or
    /// a column stands now, nobody knows, and what fires may change it there.
    pub(super) async fn look_up(
        connection: &mut PgConnection,
        only: &str,
        (table, target): (&Table, &WriteTarget),
        place: &Place,
    ) -> Result<Self, SourceError> {
        let mut tables = vec![table.oid];
        for name in &target.protected_tables {
            let there = Place::new(&table.place.database, name);
            tables.push(Table::find(connection, there).await?.oid);
        }
        let beside = Beside::of(connection, only, (table, target), place).await?;
        Ok(Self { tables, beside })
    }

    /// Has values beside compared by size, or by what they say.
    pub(super) fn compare_by_size(&mut self, by_size: bool) {
        self.beside.by_size = by_size;
    }

    /// What stands beside is read while the rows are locked: no more at once than takes a moment.
    pub(super) async fn in_bounds<'r>(
        &self,
        connection: &mut PgConnection,
        (only, place): (&str, &Place),
        rows: &[&'r RowSwap<'r>],
    ) -> Result<Vec<Vec<&'r RowSwap<'r>>>, SourceError> {
        let sizes = swap::sizes_beside(connection, only, rows, &self.beside).await;
        let Some(sizes) = sizes.at(place)? else {
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

    /// Writes rows, and checks what that set off before the commit.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        update: &Update<'_>,
        rows: &[&RowSwap<'_>],
        skip_locked: bool,
    ) -> Result<Tried, Failure> {
        let Update {
            only,
            table,
            place,
            firing,
            ..
        } = *update;
        let (protected, beside) = (&self.tables, &self.beside);
        let failed = |error| Failure::of(&error, table, place).by(firing, place);
        let mut transaction = begin(connection, update.triggers, table, place).await?;
        let changed = aftermath::changed(&mut transaction, protected, only).await;
        let changed = changed.map_err(failed)?;
        let locked = swap::lock(&mut transaction, only, rows, skip_locked).await;
        let locked = locked.map_err(failed)?;
        let there = aftermath::before(&mut transaction, only, &locked, beside).await;
        let there = there.map_err(failed)?;
        let to_write: Vec<_> = there.iter().map(|(row, _)| *row).collect();
        let written = swap::swap(&mut transaction, only, &to_write, update.deadline, "true").await;
        let written = written.map_err(failed)?;
        let stands = aftermath::after(&mut transaction, only, &there, &written, beside).await;
        let withheld = match stands.map_err(failed)? {
            Stands::AsWritten { withheld } => withheld,
            Stands::Rewritten(row) => {
                return Err(Failure::Other(SourceError::Rewritten {
                    relation: place.relation.clone(),
                    row: row.update.key,
                    by: firing.by(),
                    may_suppress: true,
                }));
            }
            Stands::PutOff => {
                return Err(Failure::Other(SourceError::PutOff {
                    relation: place.relation.clone(),
                    by: firing.by(),
                }));
            }
        };
        let now = aftermath::changed(&mut transaction, protected, only).await;
        let now = now.map_err(failed)?;
        if let Some((of, change)) = aftermath::others(&changed, now, written.len()) {
            return Err(Failure::Other(SourceError::ChangesOthers {
                relation: place.relation.clone(),
                by: firing.by(),
                of,
                change,
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
}
