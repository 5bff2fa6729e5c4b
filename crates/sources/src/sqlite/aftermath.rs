//! What the user's own triggers make of our updates: what stands once they have fired.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    catalogue::Table,
    faults::Located,
    triggers,
    write::{Swap, bind, swaps},
};
use crate::{RowKey, RowUpdate, SourceError, WriteOutcome, value::Fingerprint};

/// What there was before our updates, in an open write transaction: nobody else makes a trigger or changes
/// a row until it ends.
pub(super) struct Before {
    /// The triggers that may fire on updates of the table.
    triggers: Vec<String>,
    /// Whether each row held what was read; looked at only where there are triggers.
    held: Vec<bool>,
}

pub(super) async fn before(
    connection: &mut SqliteConnection,
    table: &Table,
    updates: &[RowUpdate],
) -> Result<Before, SourceError> {
    let triggers = triggers::of_updates(connection, table).await?;
    let mut held = vec![false; updates.len()];
    if !triggers.is_empty() {
        for (update, held) in updates.iter().zip(&mut held) {
            *held = holds(connection, table, update, |swap| swap.old).await?;
        }
    }
    Ok(Before { triggers, held })
}

impl Before {
    /// Sees that each row that was written holds what was written, and that each other holds what it held:
    /// a trigger kept the update from it.
    ///
    /// # Errors
    /// [`SourceError::Rewritten`]: the transaction must not be committed.
    pub(super) async fn after(
        self,
        connection: &mut SqliteConnection,
        table: &Table,
        updates: &[RowUpdate],
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        for ((update, outcome), held) in updates.iter().zip(outcomes).zip(self.held) {
            let written = *outcome == WriteOutcome::Written;
            if !written && !held {
                continue;
            }
            let side: Side = match written {
                true => |swap| swap.new,
                false => |swap| swap.old,
            };
            if !holds(connection, table, update, side).await? {
                return Err(SourceError::Rewritten {
                    relation: table.place.relation.clone(),
                    row: update.key,
                    by: format!("trigger {}", self.triggers.join(", trigger ")),
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

async fn holds(
    connection: &mut SqliteConnection,
    table: &Table,
    update: &RowUpdate,
    side: Side,
) -> Result<bool, SourceError> {
    let RowKey::RowId(rowid) = update.key else {
        return Ok(false);
    };
    let swaps = swaps(table, update)?;
    let held: Vec<_> = swaps.iter().map(|swap| swap.holds(side(swap))).collect();
    let (name, id, held) = (table.sql(), table.rowid(), held.join(" AND "));
    let held = if held.is_empty() {
        "1".to_owned()
    } else {
        held
    };
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {name} WHERE {id} = ? AND {held})");
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(rowid);
    for swap in &swaps {
        query = bind(query, side(swap));
    }
    let found = query.fetch_one(connection).await;
    found.and_then(|row| row.try_get(0)).at(&table.place)
}
