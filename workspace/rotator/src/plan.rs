//! Planning: cuts the keyring's tables into ranges, a few ahead of the work.

use std::collections::VecDeque;

use rekey_domain::{Found, Limits, Part, PartId, Range, RotationKind, plan_fits};
use rekey_operations::{OperationError, census_of_columns, refuse_undeclared_effects};
use rekey_runtime::crash;
use rekey_store::{Unit, batches, census, columns::Protected, keys, progress, rotations, sweeps};
use uuid::Uuid;

use crate::{
    advance::Advance,
    canary,
    changed_parts::{not_planned, parts_with_rows, tables},
    facts, fewer,
    late::{self, Pass},
    steps, unknown_keys, verify,
};

/// Blocks of a part that shares a batch with others.
const SMALL_BLOCKS: i64 = 2;
/// Parts that share a batch.
const SHARED: usize = 64;
/// Ranges planned ahead of the work: a table of a billion rows costs no memory.
const AHEAD: u64 = 64;

/// Plans the next ranges of the current pass, and dispatches what may be in flight.
pub async fn plan(advance: &Advance<'_>) -> Result<(), OperationError> {
    let db = advance.services.store.db();
    let columns = sweeps::columns_of(db, &advance.rotation).await?;
    // An emergency counts nothing before it moves the first row.
    let first_plan = advance.rotation.pass == 0
        && !advance.rotation.is_emergency()
        && census::of_pass(db, advance.rotation.id, census::BEFORE)
            .await?
            .is_empty();
    if first_plan && !columns.is_empty() {
        return count_before(advance, &columns).await;
    }
    let pass = late::of_next(advance, &columns).await?;
    if matches!(pass, Pass::NotYet) {
        return Ok(());
    }
    let waiting = progress::unfinished(db, &advance.rotation).await?.planned;
    let walk = next_ranges(advance, &columns, AHEAD.saturating_sub(waiting)).await?;
    store(advance, (&columns, &pass), walk).await
}

/// The census before the first batch, and whether all of it fits the target key's budget.
async fn count_before(advance: &Advance<'_>, columns: &[Protected]) -> Result<(), OperationError> {
    let db = advance.services.store.db();
    let counted = census_of_columns(advance.services, columns, None).await?;
    let settled = facts::settled(db, &advance.rotation).await?;
    let to_move = |found: Found| !found.is_settled(|id| settled.contains(&id));
    let values: u64 = counted
        .iter()
        .filter(|row| to_move(row.found))
        .map(|row| row.rows)
        .sum();
    if let Some(target) = advance.rotation.target_key_id {
        let used = keys::find(db, target).await?.map_or(0, |key| key.used);
        if !plan_fits(used, values) {
            return steps::give_up(advance, &does_not_fit(advance, values)).await;
        }
    }
    if unknown_keys::pause(advance, &counted).await? {
        return Ok(());
    }
    if fewer::pause(advance, columns, &counted).await? {
        return Ok(());
    }
    verify::record(advance, census::BEFORE, columns, &counted).await?;
    crash::point("rotator.counted-before");
    Ok(())
}

fn does_not_fit(advance: &Advance<'_>, values: u64) -> String {
    match advance.rotation.kind {
        RotationKind::Switch => {
            format!("{values} values do not fit under one key (SP 800-38D §8.3); split the keyring")
        }
        RotationKind::Sweep => format!(
            "{values} values do not fit under the primary key beside what it encrypted (SP 800-38D §8.3); rekey rotate {} moves them to a new one",
            advance.keyring.name
        ),
    }
}

/// A range, and whether it is a small part from its start to its end.
struct Planned {
    table: Uuid,
    part: PartId,
    range: Range,
    is_small: bool,
}

/// How far the plan of a pass has come.
struct Walk {
    /// Ranges that share a batch stand in one list.
    found: Vec<Vec<Planned>>,
    table: i32,
    part: Option<Part>,
    after: Option<i64>,
    complete: bool,
    /// The next parts of a table, asked for once a step.
    listed: Option<(i32, VecDeque<Part>)>,
    /// The table whose triggers, rules and publications were looked at in this step.
    looked_at: Option<i32>,
}

/// Walks on from where the plan stands: table by table, part by part.
async fn next_ranges(
    advance: &Advance<'_>,
    columns: &[Protected],
    most: u64,
) -> Result<Walk, OperationError> {
    let tables = canary::tables(&advance.rotation, tables(columns));
    let mut walk = Walk {
        found: Vec::new(),
        table: advance.rotation.plan_table,
        part: advance.rotation.plan_part.clone(),
        after: advance.rotation.plan_after,
        complete: false,
        listed: None,
        looked_at: None,
    };
    while (walk.found.len() as u64) < most || walk.may_share() {
        let index = usize::try_from(walk.table).ok();
        let Some(column) = index.and_then(|index| tables.get(index)) else {
            walk.complete = true;
            break;
        };
        // Some may have come since the table was applied, and what is planned is written.
        if walk.looked_at.replace(walk.table) != Some(walk.table) {
            refuse_undeclared_effects(advance.services, column).await?;
        }
        walk.step(advance, column).await?;
    }
    Ok(walk)
}

impl Walk {
    /// Small parts of one table share a batch.
    fn add(&mut self, planned: Planned) {
        match self.found.last_mut() {
            Some(shared) if shares(shared, &planned) => shared.push(planned),
            _ => self.found.push(vec![planned]),
        }
    }

    /// Whether more might go along with the last one.
    fn may_share(&self) -> bool {
        let last = self.found.last();
        last.is_some_and(|shared| shared[0].is_small && shared.len() < SHARED)
    }

    /// One range further; at a part's end to the next part, at the last one's to the next table.
    async fn step(
        &mut self,
        advance: &Advance<'_>,
        column: &Protected,
    ) -> Result<(), OperationError> {
        if let Some(part) = &self.part {
            let source = advance.services.source(&column.source).await?;
            let (relation, rows) = (&column.table.relation, batch_rows(advance, column));
            let range = source.next_range(relation, part, self.after, rows).await?;
            if let Some(range) = range {
                self.after = Some(range.last);
                let is_counted_out = advance.rotation.pause_after.is_some()
                    || limits_of(advance, column).rows_per_second.is_some();
                let planned = Planned {
                    table: column.table.id,
                    part: part.id.clone(),
                    range,
                    is_small: is_small(part, range) && !is_counted_out,
                };
                self.add(planned);
                return Ok(());
            }
        }
        self.after = None;
        let listed = self.listed.take().filter(|(table, _)| *table == self.table);
        let mut parts = match listed {
            Some((_, parts)) => parts,
            None => parts_to_plan(advance, column, self.part.take()).await?,
        };
        self.part = parts.pop_front();
        self.listed = Some((self.table, parts));
        if self.part.is_none() {
            self.table += 1;
        }
        Ok(())
    }
}

fn shares(shared: &[Planned], next: &Planned) -> bool {
    let fits = shared.len() < SHARED && shared[0].table == next.table;
    fits && shared[0].is_small && next.is_small
}

/// A whole part of few blocks. A source of rowids has one part for each table, so there is nothing to share a batch
/// with.
fn is_small(part: &Part, range: Range) -> bool {
    range.first == 0 && Some(range.last) == part.end && range.last < SMALL_BLOCKS
}

/// The rows of a range: the keyring's number, limited by the source's pace and by a canary.
fn batch_rows(advance: &Advance<'_>, column: &Protected) -> u32 {
    let of_keyring = advance.keyring.policy.batch_rows;
    let paced = limits_of(advance, column).batch_rows(of_keyring);
    advance.rotation.canary().batch_rows(paced)
}

fn limits_of(advance: &Advance<'_>, column: &Protected) -> Limits {
    column.source.limits().of(advance.rotation.urgent)
}

/// The parts after `last` that have no ranges in this pass.
async fn parts_to_plan(
    advance: &Advance<'_>,
    column: &Protected,
    last: Option<Part>,
) -> Result<VecDeque<Part>, OperationError> {
    let mut parts = parts_with_rows(advance, column).await?;
    parts.retain(|part| last.as_ref().is_none_or(|last| part.id.name > last.id.name));
    Ok(not_planned(advance, column, parts).await?.into())
}

async fn store(
    advance: &Advance<'_>,
    (columns, pass): (&[Protected], &Pass),
    walk: Walk,
) -> Result<(), OperationError> {
    let dispatch = advance.dispatch().await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    for shared in &walk.found {
        let mut leader = None;
        for one in shared {
            let range = (&one.part, one.range);
            let id = batches::plan(&unit, &advance.rotation, one.table, range, leader).await?;
            leader.get_or_insert(id);
        }
    }
    let position = rotations::PlanPosition {
        table: walk.table,
        part: walk.part.clone(),
        after: walk.after,
        complete: walk.complete,
        columns: columns.iter().map(|column| column.id).collect(),
        is_late: matches!(pass, Pass::Late),
    };
    rotations::note_plan(&unit, &advance.rotation, position).await?;
    let held = rotations::lock(&unit, advance.rotation.id).await?;
    dispatch.run(&unit, &held).await?;
    go_on(&unit, advance, &walk).await?;
    unit.commit().await?;
    crash::point("rotator.planned");
    Ok(())
}

/// A finished plan is looked at once more, as it may have no batch whose end would do that.
async fn go_on(unit: &Unit, advance: &Advance<'_>, walk: &Walk) -> Result<(), OperationError> {
    if walk.complete {
        unit.send(&advance.due()).await?;
    }
    Ok(())
}
