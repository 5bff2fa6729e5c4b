//! Planning: cuts the keyring's tables into ranges, a few ahead of the work.

use rekey_domain::{BatchState, Found, KeyId, Range, plan_fits};
use rekey_operations::{OperationError, census_of_columns};
use rekey_runtime::crash;
use rekey_store::{
    Unit, batches, census,
    columns::{self, Protected, Table},
    keys,
    rotations::{self, Changes},
};
use sea_orm::ActiveValue::Set;

use crate::{advance::Advance, facts, steps, verify};

/// Ranges planned ahead of the work: a table of a billion rows costs no memory.
const AHEAD: u64 = 64;

/// Plans the next ranges of the current pass, and dispatches what may be in flight.
pub async fn plan(advance: &Advance<'_>) -> Result<(), OperationError> {
    let db = advance.services.store.db();
    let columns = columns::of_keyring(db, advance.keyring.id).await?;
    let first_plan = advance.rotation.pass == 0
        && census::of_pass(db, advance.rotation.id, census::BEFORE)
            .await?
            .is_empty();
    if first_plan && !columns.is_empty() {
        return count_before(advance, &columns).await;
    }
    let waiting = batches::count(db, &advance.rotation, BatchState::Planned).await?;
    let ranges = next_ranges(advance, &columns, AHEAD.saturating_sub(waiting)).await?;
    store(advance, ranges).await
}

/// The census before the first batch, and whether all of it fits the target key's budget.
async fn count_before(advance: &Advance<'_>, columns: &[Protected]) -> Result<(), OperationError> {
    let db = advance.services.store.db();
    let counted = census_of_columns(advance.services, columns).await?;
    let settled = facts::settled(db, &advance.rotation).await?;
    let to_move = |found: Found| !matches!(found, Found::Key(id) if settled.contains(&id));
    let values: u64 = counted
        .iter()
        .filter(|row| to_move(row.found))
        .map(|row| row.rows)
        .sum();
    let target = advance
        .rotation
        .target_key_id
        .and_then(|id| u32::try_from(id).ok())
        .map(KeyId::new);
    if let Some(target) = target {
        let used = keys::find(db, target)
            .await?
            .map_or(0, |key| key.used.unsigned_abs());
        if !plan_fits(used, values) {
            let why = format!(
                "{values} values do not fit under one key (SP 800-38D §8.3); split the keyring"
            );
            return steps::give_up(advance, &why).await;
        }
    }
    verify::record(advance, census::BEFORE, columns, &counted).await?;
    crash::point("rotator.counted-before");
    Ok(())
}

struct Ranges {
    found: Vec<(Table, Range)>,
    table: i32,
    after: Option<i64>,
    complete: bool,
}

/// Walks on from where the plan stands, table by table.
async fn next_ranges(
    advance: &Advance<'_>,
    columns: &[Protected],
    most: u64,
) -> Result<Ranges, OperationError> {
    let tables = tables(columns);
    let rows = advance.keyring.policy.0.batch_rows;
    let mut ranges = Ranges {
        found: Vec::new(),
        table: advance.rotation.plan_table,
        after: advance.rotation.plan_after,
        complete: false,
    };
    while (ranges.found.len() as u64) < most {
        let Some(column) = usize::try_from(ranges.table)
            .ok()
            .and_then(|index| tables.get(index))
        else {
            ranges.complete = true;
            break;
        };
        let source = advance.services.source(&column.source).await?;
        match source
            .next_range(&column.table.relation, ranges.after, rows)
            .await?
        {
            Some(range) => {
                ranges.after = Some(range.last);
                ranges.found.push((column.table.clone(), range));
            }
            None => {
                ranges.table += 1;
                ranges.after = None;
            }
        }
    }
    Ok(ranges)
}

/// One column for each table, in a fixed order.
fn tables(columns: &[Protected]) -> Vec<&Protected> {
    let mut tables: Vec<&Protected> = Vec::new();
    for column in columns {
        if !tables.iter().any(|known| known.table.id == column.table.id) {
            tables.push(column);
        }
    }
    tables
}

async fn store(advance: &Advance<'_>, ranges: Ranges) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    for (table, range) in &ranges.found {
        batches::plan(&unit, &advance.rotation, table.id, *range).await?;
    }
    let changes = Changes {
        planned: Set(ranges.complete),
        plan_table: Set(ranges.table),
        plan_after: Set(ranges.after),
        resend_at: Set(unit.database_time_in(batches::RESEND_AFTER)),
        ..Default::default()
    };
    rotations::update(&unit, &advance.rotation, changes).await?;
    batches::dispatch(
        &unit,
        &advance.rotation,
        advance.keyring.policy.0.concurrency,
    )
    .await?;
    go_on(&unit, advance, &ranges).await?;
    unit.commit().await?;
    crash::point("rotator.planned");
    Ok(())
}

/// A finished plan is looked at once more, as it may have no batch whose end would do that.
async fn go_on(unit: &Unit, advance: &Advance<'_>, ranges: &Ranges) -> Result<(), OperationError> {
    if ranges.complete {
        unit.send(&advance.due()).await?;
    }
    Ok(())
}
