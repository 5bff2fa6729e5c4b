//! What a rotation would do, before it is asked for: figures, and what stands in its way. Reads only.

mod view;

use std::time::Duration;

use rekey_domain::{
    Basis, Finding, KeyState, KeyringFacts, KeyringName, LatestRotation, PLAN_LIMIT, Principal,
    QuarantineReason, Rate, TableSize, keyring_findings, kms_calls, written,
};
use rekey_sources::{CensusColumn, ColumnMeasure, Measure, TableMeasure, TableShape};
use rekey_store::{
    columns::{self, Protected},
    keyrings::{self, Keyring},
    keys::{self, Key},
    rotations, speed,
};
use uuid::Uuid;

pub use self::view::{ColumnPlan, Encryptions, RotationPlan, TablePlan, TimePlan};
use crate::{
    Action, Desired, OperationError, Services, authorise,
    sources::{
        by_table::tables,
        look::{
            self, declared_on_update, find_table, missing_columns, note_error,
            runs_undeclared_code, table_subject, undeclared_effects, was_replaced,
        },
        opening::{Opening, ToOpen, open_values},
    },
};

/// Looks at everything that a rotation of the keyring would touch.
///
/// # Errors
/// [`OperationError::Store`]; a source that cannot be looked at is a finding.
pub async fn rotation_plan(
    services: &Services,
    desired: &Desired,
    keyring: &KeyringName,
    how: Measure,
    principal: &Principal,
) -> Result<RotationPlan, OperationError> {
    authorise(principal, Action::PlanRotation)?;
    let db = services.store.db();
    let keyring = keyrings::by_name(db, keyring).await?;
    let mut columns = columns::of_keyring(db, keyring.id).await?;
    columns.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    let keys = keys::of_keyring(db, keyring.id).await?;
    let mut findings = Vec::new();
    let mut planned = Vec::new();
    let mut complete = true;
    for table in tables(&columns) {
        match plan_table(services, desired, &table, how, &mut findings).await? {
            Some((table, all)) => {
                planned.push(table);
                complete &= all;
            }
            None => complete = false,
        }
    }
    let of_columns = planned.iter().flat_map(|table| &table.columns);
    let values = of_columns.map(|column| column.values).sum();
    let basis = planned.iter().map(|table| table.found).max();
    let basis = basis.unwrap_or(Basis::Counted);
    let standby = keys.iter().find(|key| key.state == KeyState::Pending);
    let used = standby.map_or(0, |key| key.used);
    let facts = KeyringFacts {
        keyring: keyring.name.to_string(),
        has_primary: keyring.primary_key_id.is_some(),
        has_standby: standby.is_some(),
        latest: latest(services, &keyring).await?,
        used,
        values: Some((values, basis)),
    };
    findings.splice(0..0, keyring_findings(&facts));
    findings.sort_by_key(|finding| finding.need);
    let rate = rate(services, &keyring, &columns).await?;
    let lasts = rate.as_ref().map(|(_, rate)| rate.time_for(values));
    Ok(RotationPlan {
        target: standby.map(|key| key.name(&keyring)),
        keyring: keyring.name.clone(),
        complete,
        values,
        wal_bytes: planned.iter().map(|table| table.wal_bytes).sum(),
        bloat_bytes: planned.iter().map(|table| table.bloat_bytes).sum(),
        tables: planned,
        time: time(rate, lasts.filter(|_| complete)),
        kms: kms_calls(below(&keys), standby.is_some(), lasts),
        encryptions: Encryptions {
            used,
            planned: values,
            limit: PLAN_LIMIT,
        },
        findings,
    })
}

/// Keys that rows may be under.
fn below(keys: &[Key]) -> u64 {
    let holds = |key: &&Key| {
        matches!(
            key.state,
            KeyState::Active | KeyState::Inactive | KeyState::Compromised
        )
    };
    keys.iter().filter(holds).count() as u64
}

/// With whether all of the table was looked at.
async fn plan_table(
    services: &Services,
    desired: &Desired,
    columns: &[&Protected],
    how: Measure,
    findings: &mut Vec<Finding>,
) -> Result<Option<(TablePlan, bool)>, OperationError> {
    let first = columns[0];
    let Some(found) = find_table(services, first, findings).await? else {
        return Ok(None);
    };
    findings.extend(undeclared_effects(desired, first, &found.shape));
    let before = findings.len();
    for column in columns {
        if !missing_columns(column, &found.shape, findings) {
            was_replaced(column, &found, findings).await;
        }
    }
    if findings.len() > before || runs_undeclared_code(desired, first, &found.shape) {
        return Ok(None);
    }
    let wanted: Vec<CensusColumn> = columns.iter().map(|c| look::census_column(c)).collect();
    let relation = &first.table.relation;
    let source = &*found.source;
    let measure = || source.measure(relation, &wanted, how);
    let measured = match look::patiently(source, relation, measure).await {
        Ok(measured) => measured,
        Err(error) => {
            note_error(findings, table_subject(first), &error);
            return Ok(None);
        }
    };
    let to_open: Vec<_> = columns.iter().map(|column| ToOpen::from(*column)).collect();
    let opened = open_values(services, source, relation, &to_open, how).await;
    findings.extend(opened.findings(columns, &QuarantineReason::ALL));
    let all = !opened.waits_for_a_lock();
    let (shape, opened) = (found.shape, opened.columns);
    let plan = table_plan(desired, columns, shape, measured, opened);
    Ok(Some((plan, all)))
}

fn table_plan(
    desired: &Desired,
    columns: &[&Protected],
    shape: TableShape,
    mut measured: TableMeasure,
    opened: Vec<Opening>,
) -> TablePlan {
    let first = columns[0];
    // Where all were tried, empty values are known not to be among those to move.
    for (measure, opening) in measured.columns.iter_mut().zip(&opened) {
        if opening.all {
            measure.values = measure.values.min(opening.tried);
        }
    }
    let size = size(&measured);
    let written = written(measured.storage, &size);
    let share = |(updates, hot): (u64, u64)| (updates > 0).then(|| hot as f64 / updates as f64);
    let columns = columns.iter().zip(measured.columns).zip(opened);
    let column = |((column, measure), opening): ((&&Protected, ColumnMeasure), Opening)| {
        // If only some values were tried, nobody knows how many of the others do not open.
        let stay = if opening.all { opening.not() } else { 0 };
        ColumnPlan {
            column: column.spec.name.to_string(),
            values: measure.values.saturating_sub(stay),
            bytes: measure.bytes,
            indexes: measure.indexes,
            opening,
        }
    };
    TablePlan {
        table: format!("{}.{}", first.source.name, first.table.name),
        relation: first.table.relation.clone(),
        parts: measured.parts,
        rows: measured.rows,
        found: measured.basis,
        heap_bytes: measured.heap_bytes,
        toast_bytes: measured.toast_bytes,
        index_bytes: measured.index_bytes,
        wal_bytes: written.wal,
        bloat_bytes: written.bloat,
        hot_expected: written.in_place,
        hot_so_far: measured.updates.and_then(share),
        update_triggers: shape.update_triggers,
        triggers: declared_on_update(desired, first).triggers,
        publications: shape.publications,
        replication_slots: measured.replication_slots,
        columns: columns.map(column).collect(),
    }
}

/// A row is written once, however many of its values move: at most as many as there are values.
fn size(measured: &TableMeasure) -> TableSize {
    let values: u64 = measured.columns.iter().map(|column| column.values).sum();
    TableSize {
        rows: measured.rows,
        written: values.min(measured.rows),
        row_bytes: measured.row_bytes,
        heap_bytes: measured.heap_bytes,
        toast_bytes: measured.toast_bytes,
        index_bytes: measured.index_bytes,
        indexes: measured.indexes,
        indexed: measured.columns.iter().any(|c| !c.indexes.is_empty()),
    }
}

async fn latest(
    services: &Services,
    keyring: &Keyring,
) -> Result<Option<LatestRotation>, OperationError> {
    let latest = rotations::latest(services.store.db(), keyring.id).await?;
    Ok(latest.map(|rotation| LatestRotation {
        id: rotation.id.to_string(),
        kind: rotation.kind,
        state: rotation.state,
        replaces_compromised: rotation.replaces_compromised(),
        paused_because: rotation.paused.then(|| {
            rotation
                .paused_because
                .unwrap_or_else(|| "no reason given".to_owned())
        }),
    }))
}

/// How fast the keyring's last rotation was that moved anything, else the last one at the same sources.
async fn rate(
    services: &Services,
    keyring: &Keyring,
    columns: &[Protected],
) -> Result<Option<(rotations::Rotation, Rate)>, OperationError> {
    let db = services.store.db();
    let all = columns::all(db).await?;
    let shares_a_source = |other: Uuid| {
        let mut of_other = all.iter().filter(|column| column.keyring_id == other);
        of_other.any(|theirs| {
            columns
                .iter()
                .any(|ours| ours.source.id == theirs.source.id)
        })
    };
    let mut rotations = rotations::all(db).await?;
    rotations.retain(|one| one.keyring_id == keyring.id || shares_a_source(one.keyring_id));
    rotations.sort_by_key(|one| one.keyring_id != keyring.id);
    for rotation in rotations {
        if let Some(rate) = speed::of(db, &rotation).await? {
            return Ok(Some((rotation, rate)));
        }
    }
    Ok(None)
}

fn time(rate: Option<(rotations::Rotation, Rate)>, lasts: Option<Duration>) -> TimePlan {
    let Some((rotation, rate)) = rate else {
        let assumption = "not measured yet: no rotation has moved values of this keyring or of its sources; the time is the number of values by the rate that a first one will show";
        return TimePlan {
            seconds: None,
            values_per_second: None,
            rotation: None,
            assumption: assumption.to_owned(),
        };
    };
    TimePlan {
        seconds: lasts.map(|lasts| lasts.as_secs()),
        values_per_second: Some(rate.per_second()),
        rotation: Some(rotation.id),
        assumption: format!(
            "as fast as rotation {}, which moved {} values in {:.1} s, pauses included: with as many workers, the same concurrency and as much load",
            rotation.id,
            rate.values,
            rate.took.as_secs_f64()
        ),
    }
}
