//! What the user's own triggers do to our updates: what is there after they have fired.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteOperation};

use super::{
    catalogue::Table,
    faults::Located,
    swap::{Swap, bind, swaps},
    triggers,
};
use crate::{RowKey, RowUpdate, SourceError, WriteOutcome, value::Fingerprint};

/// What there was before our updates, in an open write transaction: nobody else makes a trigger or changes
/// a row until it ends.
pub(super) struct Before {
    /// The triggers that may fire on updates of the table.
    pub(super) triggers: Vec<String>,
    /// What each row that held what was read was bound to; looked at only where there are triggers.
    held: Vec<Option<String>>,
    /// The columns that values are bound to, as one text.
    binds: String,
}

pub(super) async fn before(
    connection: &mut SqliteConnection,
    table: &Table,
    updates: &[RowUpdate],
    bind_columns: &[String],
) -> Result<Before, SourceError> {
    let triggers = triggers::of_updates(connection, table).await?;
    let binds = binds(table, bind_columns)?;
    let mut held = vec![None; updates.len()];
    if !triggers.is_empty() {
        for (update, one) in updates.iter().zip(&mut held) {
            *one = bound(connection, table, update, &binds, |swap| swap.old).await?;
        }
    }
    Ok(Before {
        triggers,
        held,
        binds,
    })
}

fn binds(table: &Table, columns: &[String]) -> Result<String, SourceError> {
    let quoted = columns.iter().map(|column| {
        let column = table.column(column)?;
        Ok(format!("quote({column})"))
    });
    let quoted: Result<Vec<_>, SourceError> = quoted.collect();
    let mut all = vec!["''".to_owned()];
    all.extend(quoted?);
    Ok(all.join(" || ',' || "))
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
    /// trigger kept the update from it, and that no row is bound to something else.
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
            let now = bound(connection, table, update, &self.binds, side).await?;
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

/// What the row is bound to, if it holds these values.
async fn bound(
    connection: &mut SqliteConnection,
    table: &Table,
    update: &RowUpdate,
    binds: &str,
    side: Side,
) -> Result<Option<String>, SourceError> {
    let RowKey::RowId(rowid) = update.key else {
        return Ok(None);
    };
    let swaps = swaps(table, update)?;
    let held: Vec<_> = swaps.iter().map(|swap| swap.holds(side(swap))).collect();
    let (name, id, held) = (table.sql(), table.rowid(), held.join(" AND "));
    let held = if held.is_empty() {
        "1".to_owned()
    } else {
        held
    };
    let sql = format!("SELECT {binds} FROM {name} WHERE {id} = ? AND {held}");
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(rowid);
    for swap in &swaps {
        query = bind(query, side(swap));
    }
    let found = query.fetch_optional(connection).await.at(&table.place)?;
    let value = found.map(|row| row.try_get(0)).transpose();
    value.at(&table.place)
}
