//! So many fewer values than when the last rotation was done that the source may be another one: a person looks before
//! the others are believed to be all.

use std::collections::HashMap;

use rekey_domain::{Found, RotationState, fewer_stand_out};
use rekey_operations::{CensusRow, OperationError};
use rekey_store::{census, columns::Protected, rotations, rotations::Cause};
use uuid::Uuid;

use crate::{advance::Advance, steps};

/// Whether the rotation was put on hold, as a column lost most of its values since the last census of a rotation. One
/// that a person resumed goes on, and one that hurries.
pub async fn pause(
    advance: &Advance<'_>,
    columns: &[Protected],
    counted: &[CensusRow],
) -> Result<bool, OperationError> {
    if advance.rotation.resumptions > 0 || advance.rotation.urgent {
        return Ok(false);
    }
    let Some(before) = last_counts(advance).await? else {
        return Ok(false);
    };
    for column in columns {
        let Some(before) = before.get(&column.id).copied() else {
            continue;
        };
        let of_column = counted.iter().filter(|row| row.column_id == column.id);
        let now = values(of_column.map(|row| (row.found, row.rows)));
        if fewer_stand_out(before, now) {
            let name = &column.spec.name;
            let why = format!(
                "{name} has {now} values, and had {before} when the last rotation was done: see that source {} is the database that is meant, and no copy of it, and that its values are not elsewhere (rekey columns check); where they were deleted, it goes on when it is resumed",
                name.source
            );
            steps::pause(advance, Cause::FewerValues, &why).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many values each column had when the last rotation of all columns was done.
async fn last_counts(advance: &Advance<'_>) -> Result<Option<HashMap<Uuid, u64>>, OperationError> {
    let db = advance.services.store.db();
    let all = rotations::of_keyring(db, advance.keyring.id).await?;
    let is_done = |one: &&rotations::Rotation| {
        one.state == RotationState::Completed && one.sweep_columns.is_none()
    };
    let Some(last) = all.iter().find(is_done) else {
        return Ok(None);
    };
    let mut counts: HashMap<Uuid, u64> = HashMap::new();
    for row in census::of_pass(db, last.id, last.pass).await? {
        *counts.entry(row.column_id).or_default() += values([(row.found(), row.rows())]);
    }
    Ok(Some(counts))
}

/// Those that have the form of ciphertext.
fn values(counted: impl IntoIterator<Item = (Found, u64)>) -> u64 {
    let of_key = counted
        .into_iter()
        .filter(|(found, _)| matches!(found, Found::Key(_)));
    of_key.map(|(_, rows)| rows).sum()
}
