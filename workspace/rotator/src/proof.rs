//! What a census needs to count as proof: no open transaction from before the end of the last encrypt lease, and the
//! identities of what the pass left.

use std::collections::{HashMap, HashSet};

use rekey_operations::{OperationError, PassToProve};
use rekey_sources::ValueId;
use rekey_store::{batches, columns::Protected, quarantine, reopened, rotations};
use uuid::Uuid;

use crate::{advance::Advance, facts};

/// Gathers it; None if something must be waited for, which is noted.
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
    let mut parts = HashMap::new();
    for table in columns.iter().map(|column| column.table.id) {
        let covered = batches::covered(db, &advance.rotation, table).await?;
        parts.insert(table, covered.into_iter().map(|one| one.part).collect());
    }
    let mut opened = HashMap::new();
    for column in columns {
        let keys = reopened::of_pass(db, &advance.rotation, column.id).await?;
        let ids: HashSet<ValueId> = keys.into_iter().map(ValueId::from).collect();
        opened.insert(column.id, ids);
    }
    let mut not_met = HashMap::new();
    for column in columns {
        let keys = quarantine::not_met(db, &advance.rotation, column.id).await?;
        let ids: Vec<_> = keys.into_iter().map(ValueId::from).collect();
        // A value that was met in its present place is counted there.
        let met: HashSet<_> = left[&column.id].iter().filter_map(ValueId::start).collect();
        let starts = ids.iter().filter_map(ValueId::start);
        let starts = starts.filter(|start| !met.contains(start));
        not_met.insert(column.id, starts.map(str::to_owned).collect());
    }
    Ok(Some(PassToProve {
        parts,
        not_met,
        opened,
        settled: settled.into_iter().collect(),
        left,
        fences,
    }))
}

/// The mark of each source, taken once, as the rules count nothing before the last lease has ended. None if some marks
/// were taken only now.
pub async fn fences(
    advance: &Advance<'_>,
    columns: &[Protected],
) -> Result<Option<HashMap<Uuid, String>>, OperationError> {
    let known = advance.rotation.fences.clone();
    let mut fences = known.unwrap_or_default();
    let mut taken = false;
    for source in columns.iter().map(|column| &column.source) {
        if fences.contains_key(&source.id) {
            continue;
        }
        let open = advance.services.source(source).await?;
        fences.insert(source.id, open.fence().await?);
        taken = true;
    }
    if !taken {
        return Ok(Some(fences));
    }
    let Some(unit) = advance.begin().await? else {
        return Ok(None);
    };
    rotations::note_fences(&unit, &advance.rotation, Some(fences)).await?;
    unit.send(&advance.due()).await?;
    unit.commit().await?;
    Ok(None)
}
