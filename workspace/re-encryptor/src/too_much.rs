//! So much of a column in quarantine that it has one cause: the rotation is put on hold before more is left behind.

use std::collections::BTreeMap;

use rekey_domain::{QuarantineReason, quarantine_stands_out};
use rekey_store::{
    StoreError, Unit, columns, met, quarantine,
    rotations::{self, Locked},
};
use uuid::Uuid;

/// Adds what a batch met; where much of it stands out, puts the rotation on hold and gives why.
///
/// Only once in a rotation, as whoever resumes it knows. An emergency is not put on hold: others know its key, so every
/// value that can be moved must be.
pub async fn of(
    unit: &Unit,
    rotation: &Locked,
    batch: &BTreeMap<Uuid, u64>,
) -> Result<Option<String>, StoreError> {
    for (column, values) in batch {
        let met = met::add(unit, rotation, *column, *values).await?;
        if rotation.stood_out == Some(true) || rotation.paused {
            continue;
        }
        let left = quarantine::of_pass(unit.db(), rotation, *column).await?;
        if !quarantine_stands_out(met, left) {
            continue;
        }
        let why = why(unit, rotation, *column, (met, left)).await?;
        if rotation.urgent {
            tracing::error!(rotation = %rotation.id, why, "much is in quarantine, and the rotation goes on, as it is urgent");
            continue;
        }
        rotations::pause_as_much_stands_out(unit, rotation, &why).await?;
        return Ok(Some(why));
    }
    Ok(None)
}

async fn why(
    unit: &Unit,
    rotation: &Locked,
    column: Uuid,
    (met, left): (u64, u64),
) -> Result<String, StoreError> {
    let columns = columns::all(unit.db()).await?;
    let column = columns.iter().find(|one| one.id == column);
    let name = column.map_or_else(|| "a column".to_owned(), |one| one.spec.name.to_string());
    let not_written = QuarantineReason::NotWritten;
    if quarantine::left_for(unit.db(), rotation, not_written).await? >= left {
        let is_sqlite = column.is_some_and(|one| one.source.url.starts_with("sqlite"));
        let suppress = match is_sqlite {
            true => "",
            false => ", or say triggers = \"suppress\" and apply",
        };
        return Ok(format!(
            "{left} of the {met} values of {name} that this pass has met are in quarantine, as their rows were not written: a trigger or a rule skips updates there, which rekey quarantine list --column {name} names; have it let them through and rekey quarantine retry{suppress}"
        ));
    }
    Ok(format!(
        "{left} of the {met} values of {name} that this pass has met are in quarantine, which has one cause as a rule: a table or column that was renamed, rows that were renumbered, a database or store from a backup; see rekey quarantine list --column {name}; resumed, it moves what it can and leaves the others as they are"
    ))
}
