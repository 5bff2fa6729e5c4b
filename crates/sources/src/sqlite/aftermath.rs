//! What the user's own triggers do to our updates: what is there after they have fired.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, Row, SqliteConnection,
    sqlite::{SqliteOperation, SqliteRow},
};

use super::{
    catalogue::Table,
    faults::Located,
    swap::{Swap, bind, swaps},
    triggers,
};
use crate::{RowKey, RowUpdate, SourceError, WriteOutcome, WriteTarget, value::Fingerprint};

/// What there was before our updates, in an open write transaction: nobody else makes a trigger or changes
/// a row until it ends.
pub(super) struct Before {
    /// The triggers that may fire on updates of the table.
    pub(super) triggers: Vec<String>,
    /// What stood beside it in each row that held what was read; looked at only where there are triggers.
    held: Vec<Option<Digest>>,
    beside: Beside,
}

pub(super) async fn before(
    connection: &mut SqliteConnection,
    table: &Table,
    updates: &[RowUpdate],
    target: &WriteTarget,
) -> Result<Before, SourceError> {
    let triggers = triggers::of_updates(connection, table).await?;
    let beside = Beside::of(table, target);
    let mut held = vec![None; updates.len()];
    if !triggers.is_empty() {
        for (update, one) in updates.iter().zip(&mut held) {
            *one = stands_beside(connection, table, update, &beside, |swap| swap.old).await?;
        }
    }
    Ok(Before {
        triggers,
        held,
        beside,
    })
}

/// Columns that an update leaves alone; what it sets off must, too.
struct Beside {
    binds: Vec<String>,
    protected: Vec<String>,
}

impl Beside {
    /// A column that is not there any more holds nothing that could be lost.
    fn of(table: &Table, target: &WriteTarget) -> Self {
        let named = |columns: &[String]| {
            let there = columns
                .iter()
                .filter_map(|name| table.bare_column(name).ok());
            there.collect()
        };
        Self {
            binds: named(&target.bind_columns),
            protected: named(&target.protected_columns),
        }
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

    /// Sees that no other row of a protected table was changed.
    ///
    /// # Errors
    /// [`SourceError::ChangesOthers`]: the transaction must not be committed.
    pub(super) fn check_others(
        &self,
        table: &Table,
        updates: &[RowUpdate],
        protected: &[String],
        watched: &Watched,
    ) -> Result<(), SourceError> {
        let Some((of, rows)) = watched.others(&table.name, updates, protected) else {
            return Ok(());
        };
        Err(SourceError::ChangesOthers {
            relation: table.place.relation.clone(),
            by: self.by(),
            of,
            rows,
            may_suppress: false,
        })
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

/// Rows that are changed or deleted on a connection, by whatever: table and rowid.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Vec<(String, i64)>>>);

impl Watched {
    /// From now on.
    pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let watched = Self::default();
        // A weak reference: if the watcher is dropped and this hook stays, it keeps nothing.
        let seen = Arc::downgrade(&watched.0);
        let mut handle = connection.lock_handle().await?;
        handle.set_update_hook(move |change| {
            if let Some(seen) = seen.upgrade()
                && change.operation != SqliteOperation::Insert
            {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((change.table.to_owned(), change.rowid));
            }
        });
        Ok(watched)
    }

    /// No more.
    pub(super) async fn end(connection: &mut SqliteConnection) -> sqlx::Result<()> {
        connection.lock_handle().await?.remove_update_hook();
        Ok(())
    }

    /// A table with protected columns of which other rows than `ours` were changed, and how many.
    fn others(
        &self,
        table: &str,
        ours: &[RowUpdate],
        protected: &[String],
    ) -> Option<(String, u64)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = |rowid: i64| ours.iter().any(|one| one.key == RowKey::RowId(rowid));
        let bare = |name: &str| {
            name.rsplit('.')
                .next()
                .unwrap_or(name)
                .trim_matches('"')
                .to_owned()
        };
        let is_protected = |name: &str| {
            let mut all = protected.iter().map(|one| bare(one));
            all.any(|one| one.eq_ignore_ascii_case(name))
        };
        let others: Vec<_> = seen
            .iter()
            .filter(|(name, rowid)| match name.eq_ignore_ascii_case(table) {
                true => !is_ours(*rowid),
                false => is_protected(name),
            })
            .collect();
        let (first, _) = others.first()?;
        let rows = others.iter().filter(|(name, _)| name == first).count();
        Some((first.clone(), rows as u64))
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
