//! A pass plans the parts that came, were written anew or were away since it was planned.

use rekey_domain::Part;
use rekey_operations::OperationError;
use rekey_store::{batches, columns::Protected, quarantine, rotations, sweeps};

use crate::advance::Advance;

/// Plans the parts that came or were written anew (`VACUUM FULL`, a repack, `ATTACH PARTITION`)
/// since this pass was planned; `false` when there are none, and what the pass proved holds.
pub async fn plan_changed_parts(advance: &Advance<'_>) -> Result<bool, OperationError> {
    let db = advance.services.store.db();
    let columns = sweeps::columns_of(db, &advance.rotation).await?;
    for column in tables(&columns) {
        let parts = parts_with_rows(advance, column).await?;
        let void = batches::void_parts(db, &advance.rotation, column.table.id).await?;
        if let Some(part) = parts.iter().find(|part| void.contains(&part.id)) {
            read_after_all(advance, column, part).await?;
            return Ok(true);
        }
        let to_plan = not_planned(advance, column, parts).await?;
        let Some(part) = to_plan.into_iter().next() else {
            continue;
        };
        let Some(unit) = advance.begin().await? else {
            return Ok(true);
        };
        rotations::plan_anew(&unit, &advance.rotation).await?;
        quarantine::forget_part(&unit, &advance.rotation, &part.id).await?;
        unit.commit().await?;
        tracing::info!(rotation = %advance.rotation.id, part = %part.id, "a part is new or was written anew; planning it");
        return Ok(true);
    }
    Ok(false)
}

/// Plans again the ranges of a part that was away when they were to be read (`DETACH` and `ATTACH`, a rename and back).
async fn read_after_all(
    advance: &Advance<'_>,
    column: &Protected,
    part: &Part,
) -> Result<(), OperationError> {
    let table = column.table.id;
    let dispatch = advance.dispatch().await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let held = rotations::lock(&unit, advance.rotation.id).await?;
    batches::replan_void(&unit, &held, table, &part.id).await?;
    dispatch.run(&unit, &held).await?;
    unit.send(&advance.due()).await?;
    unit.commit().await?;
    tracing::info!(rotation = %advance.rotation.id, part = %part.id, "a part is there again; planning what was void of it");
    Ok(())
}

/// Those of the parts that have no ranges in this pass.
pub async fn not_planned(
    advance: &Advance<'_>,
    column: &Protected,
    mut parts: Vec<Part>,
) -> Result<Vec<Part>, OperationError> {
    let db = advance.services.store.db();
    let names: Vec<_> = parts.iter().map(|part| part.id.name.as_str()).collect();
    let planned = batches::planned_parts(db, &advance.rotation, column.table.id, &names).await?;
    parts.retain(|part| !planned.contains(&part.id));
    Ok(parts)
}

/// The table's parts that hold rows, by name.
pub async fn parts_with_rows(
    advance: &Advance<'_>,
    column: &Protected,
) -> Result<Vec<Part>, OperationError> {
    let source = advance.services.source(&column.source).await?;
    let mut parts = source.parts(&column.table.relation).await?;
    parts.retain(|part| part.end.is_some());
    parts.sort_unstable_by(|one, other| one.id.name.cmp(&other.id.name));
    Ok(parts)
}

/// One column for each table, in a fixed order.
pub fn tables(columns: &[Protected]) -> Vec<&Protected> {
    let mut tables: Vec<&Protected> = Vec::new();
    for column in columns {
        if !tables.iter().any(|known| known.table.id == column.table.id) {
            tables.push(column);
        }
    }
    tables
}
