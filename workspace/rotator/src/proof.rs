//! What a census needs to count as proof: no transaction that was open at the end of the last encrypt lease, and the identities of what the pass left.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rekey_operations::{OperationError, PassToProve};
use rekey_sources::{SourceError, ValueId};
use rekey_store::{
    Unit,
    columns::Protected,
    quarantine,
    rotations::{self, Changes},
    stored::Json,
};
use sea_orm::ActiveValue::Set;
use uuid::Uuid;

use crate::{advance::Advance, facts};

/// How long a transaction is left alone before it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Gathers it; None while there is something to wait for, which was noted.
pub async fn of_pass(
    advance: &Advance<'_>,
    columns: &[Protected],
) -> Result<Option<PassToProve>, OperationError> {
    let Some(fences) = fences(advance, columns).await? else {
        return Ok(None);
    };
    let db = advance.services.store.db();
    let settled = facts::settled(db, &advance.rotation).await?;
    let mut left = HashMap::new();
    for column in columns {
        let keys = quarantine::keys_of_pass(db, &advance.rotation, column.id).await?;
        let ids: HashSet<ValueId> = keys.into_iter().map(ValueId::from).collect();
        left.insert(column.id, ids);
    }
    Ok(Some(PassToProve {
        settled: settled.into_iter().collect(),
        left,
        fences,
    }))
}

/// The mark of each source, taken once: the rules let nothing be counted before the last lease ended.
/// None where some had to be taken now.
async fn fences(
    advance: &Advance<'_>,
    columns: &[Protected],
) -> Result<Option<HashMap<Uuid, String>>, OperationError> {
    let known = advance.rotation.fences.clone();
    let mut fences = known.map(|Json(fences)| fences).unwrap_or_default();
    let mut taken = false;
    for source in columns.iter().map(|column| &column.source) {
        if fences.contains_key(&source.id) {
            continue;
        }
        let open = advance.services.source(source).await?;
        match open.fence().await {
            Ok(fence) => fences.insert(source.id, fence),
            Err(error @ SourceError::Busy { .. }) => {
                wait(advance, &error.into()).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        taken = true;
    }
    if !taken {
        return Ok(Some(fences));
    }
    let Some(unit) = advance.begin().await? else {
        return Ok(None);
    };
    let changes = Changes {
        fences: Set(Some(Json(fences))),
        ..Default::default()
    };
    rotations::update(&unit, &advance.rotation, changes).await?;
    unit.send(&advance.due()).await?;
    unit.commit().await?;
    Ok(None)
}

/// Whether a census failed for something that passes by itself, and that a person may want to know.
pub fn waits_for(error: &OperationError) -> bool {
    use SourceError::{FenceLost, OpenTransactions};
    matches!(
        error,
        OperationError::Source(OpenTransactions { .. } | FenceLost { .. })
    )
}

/// Says what the rotation waits for, and looks again a little later.
pub async fn wait(advance: &Advance<'_>, error: &OperationError) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    put_off(&unit, advance, &error.to_string()).await?;
    if matches!(error, OperationError::Source(SourceError::FenceLost { .. })) {
        let taken_anew = Changes {
            fences: Set(None),
            ..Default::default()
        };
        rotations::update(&unit, &advance.rotation, taken_anew).await?;
    }
    Ok(unit.commit().await?)
}

async fn put_off(unit: &Unit, advance: &Advance<'_>, why: &str) -> Result<(), OperationError> {
    let since = advance.rotation.waiting_since;
    let changes = Changes {
        waiting_because: Set(Some(why.to_owned())),
        waiting_since: Set(since.or(Some(unit.database_time_in(Duration::ZERO)))),
        ..Default::default()
    };
    rotations::update(unit, &advance.rotation, changes).await?;
    Ok(unit.send_after(&advance.due(), LOOK_AGAIN).await?)
}

/// Of a rotation that was counted.
pub fn waits_no_more() -> Changes {
    Changes {
        waiting_because: Set(None),
        waiting_since: Set(None),
        ..Default::default()
    }
}
