//! What the user's own triggers do to our updates: what is there after they have fired.

use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    catalogue::Table,
    faults::Located,
    sql::quote,
    swap::{Swap, bind, swaps},
    triggers,
    watched::Watched,
};
use crate::{
    OtherChange, RowKey, RowUpdate, SourceError, WriteOutcome, WriteTarget, place::Place,
    value::Fingerprint,
};

/// What there was before our updates, in an open write transaction: nobody else makes a trigger or changes
/// a row until it ends.
pub(super) struct Before {
    /// The triggers that may fire on updates of the table.
    pub(super) triggers: Vec<String>,
    /// What stood beside it in each row that held what was read; looked at only where there are triggers.
    held: Vec<Option<Digest>>,
    beside: Beside,
    /// The other tables with protected columns, by the names that the catalogue has; where there are triggers.
    others: Vec<String>,
}

pub(super) async fn before(
    connection: &mut SqliteConnection,
    table: &Table,
    updates: &[RowUpdate],
    target: &WriteTarget,
) -> Result<Before, SourceError> {
    let triggers = triggers::of_updates(connection, table).await?;
    let mut before = Before {
        held: vec![None; updates.len()],
        triggers,
        beside: Beside::default(),
        others: Vec::new(),
    };
    if before.triggers.is_empty() {
        return Ok(before);
    }
    before.beside = Beside::of(table, target)?;
    for name in &target.protected_tables {
        let place = Place::new(&table.place.database, name);
        let other = Table::find(connection, place).await?;
        before.others.push(other.name);
    }
    for (update, one) in updates.iter().zip(&mut before.held) {
        *one = stands_beside(connection, table, update, &before.beside, |swap| swap.old).await?;
    }
    Ok(before)
}

/// Columns that an update leaves alone; what it sets off must, too.
#[derive(Default)]
struct Beside {
    binds: Vec<String>,
    protected: Vec<String>,
}

impl Beside {
    /// # Errors
    /// [`SourceError::NoSuchColumn`]: under which name a column stands now, nobody knows.
    fn of(table: &Table, target: &WriteTarget) -> Result<Self, SourceError> {
        let named = |columns: &[String]| -> Result<Vec<_>, SourceError> {
            let named = columns.iter().map(|name| table.bare_column(name));
            named.collect()
        };
        let mut protected = named(&target.protected_columns)?;
        let others = target.other_columns.iter();
        protected.extend(others.filter_map(|name| table.bare_column(name).ok()));
        protected.sort_unstable();
        protected.dedup();
        Ok(Self {
            binds: named(&target.bind_columns)?,
            protected,
        })
    }

    /// The columns of a row whose `swaps` are compared by themselves.
    fn columns<'a>(&'a self, swaps: &'a [Swap<'_>]) -> impl Iterator<Item = &'a String> {
        let written = |column: &&String| swaps.iter().any(|swap| swap.column == **column);
        let left = self.protected.iter().filter(move |column| !written(column));
        self.binds.iter().chain(left)
    }
}

impl Before {
    fn by(&self) -> String {
        format!("trigger {}", self.triggers.join(", trigger "))
    }

    /// Sees that no other row of a protected table was changed, as far as it is told.
    ///
    /// # Errors
    /// [`SourceError::ChangesOthers`]: the transaction must not be committed.
    pub(super) fn check_others(
        &self,
        table: &Table,
        updates: &[RowUpdate],
        watched: &Watched,
    ) -> Result<(), SourceError> {
        match watched.others(&table.name, updates, &self.others) {
            Some((of, rows)) => Err(self.changes_others(table, of, rows)),
            None => Ok(()),
        }
    }

    /// Whether rows may have been deleted that nobody was told of: by `REPLACE`, or by a `DELETE` of a whole table.
    pub(super) fn may_be_untold(&self, table: &Table, watched: &Watched) -> bool {
        let is_protected = |name: &str| {
            self.protected(table)
                .any(|one| one.eq_ignore_ascii_case(name))
        };
        !watched.is_told_all() || watched.inserted().any(is_protected)
    }

    /// How many rows each protected table has.
    pub(super) async fn count(
        &self,
        connection: &mut SqliteConnection,
        table: &Table,
    ) -> Result<Vec<i64>, SourceError> {
        let mut counts = Vec::new();
        for name in self.protected(table) {
            let sql = format!("SELECT count(*) FROM \"main\".{} NOT INDEXED", quote(name));
            let counted = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection);
            counts.push(counted.await.at(&table.place)?);
        }
        Ok(counts)
    }

    /// Sees that the tables have as many rows as before, but for those that were told.
    ///
    /// # Errors
    /// [`SourceError::ChangesOthers`]: the transaction must not be committed.
    pub(super) fn check_counts(
        &self,
        table: &Table,
        (before, now): (&[i64], &[i64]),
        watched: &Watched,
    ) -> Result<(), SourceError> {
        for ((name, were), are) in self.protected(table).zip(before).zip(now) {
            let untold = were + watched.growth(name) - are;
            if untold != 0 {
                return Err(self.changes_others(table, name.clone(), untold.unsigned_abs()));
            }
        }
        Ok(())
    }

    fn protected<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a String> {
        let others = self.others.iter();
        let others = others.filter(|name| !name.eq_ignore_ascii_case(&table.name));
        std::iter::once(&table.name).chain(others)
    }

    fn changes_others(&self, table: &Table, of: String, rows: u64) -> SourceError {
        SourceError::ChangesOthers {
            relation: table.place.relation.clone(),
            by: self.by(),
            of,
            change: OtherChange::Rows(rows),
            may_suppress: false,
        }
    }

    /// Checks that each written row holds what was written, that each other row still holds its old values because a
    /// trigger kept the update from it, and that beside it each row holds what it held.
    ///
    /// # Errors
    /// [`SourceError::Rewritten`]: the transaction must not be committed.
    pub(super) async fn after(
        &self,
        connection: &mut SqliteConnection,
        table: &Table,
        updates: &[RowUpdate],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        for ((update, outcome), held) in updates.iter().zip(outcomes).zip(&self.held) {
            let written = *outcome == WriteOutcome::Written;
            if !written && held.is_none() {
                continue;
            }
            let side: Side = match written {
                true => |swap| swap.new,
                false => |swap| swap.old,
            };
            let now = stands_beside(connection, table, update, &self.beside, side).await?;
            // Where there is no trigger, nothing else was changed.
            if now.is_none() || held.is_some() && now != *held {
                return Err(SourceError::Rewritten {
                    relation: table.place.relation.clone(),
                    row: update.key,
                    by: self.by(),
                    may_suppress: false,
                });
            }
            if !written {
                *outcome = WriteOutcome::Withheld;
            }
        }
        Ok(())
    }
}

type Side = for<'a> fn(&Swap<'a>) -> Fingerprint<'a>;

/// Of all that stands in a row beside what is written. Values may be large, so they are not kept.
type Digest = [u8; 32];

/// What stands beside these values in the row, if it holds them.
async fn stands_beside(
    connection: &mut SqliteConnection,
    table: &Table,
    update: &RowUpdate,
    beside: &Beside,
    side: Side,
) -> Result<Option<Digest>, SourceError> {
    let RowKey::RowId(rowid) = update.key else {
        return Ok(None);
    };
    let swaps = swaps(table, update)?;
    let mut held: Vec<_> = swaps.iter().map(|swap| swap.holds(side(swap))).collect();
    held.push("1".to_owned());
    let mut wanted = vec!["1".to_owned()];
    let columns = beside.columns(&swaps);
    wanted.extend(columns.flat_map(|column| {
        [
            format!("typeof(t.{column})"),
            format!("CAST(t.{column} AS BLOB)"),
        ]
    }));
    let (name, id) = (table.sql(), table.rowid());
    let (wanted, held) = (wanted.join(", "), held.join(" AND "));
    let sql = format!("SELECT {wanted} FROM {name} WHERE {id} = ? AND {held}");
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(rowid);
    for swap in &swaps {
        query = bind(query, side(swap));
    }
    let found = query.fetch_optional(connection).await.at(&table.place)?;
    found.as_ref().map(digest).transpose().at(&table.place)
}

fn digest(row: &SqliteRow) -> sqlx::Result<Digest> {
    let mut digest = Sha256::new();
    for at in (1..row.len()).step_by(2) {
        let kind: &str = row.try_get(at)?;
        let value: Option<&[u8]> = row.try_get(at + 1)?;
        let value = value.unwrap_or_default();
        digest.update(kind);
        digest.update((value.len() as u64).to_be_bytes());
        digest.update(value);
    }
    Ok(digest.finalize().into())
}
