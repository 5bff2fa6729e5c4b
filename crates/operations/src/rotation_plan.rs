//! What a rotation would do, before it is asked for: figures, and what stands in its way. Reads only.

use std::time::Duration;

use rekey_domain::{
    Basis, Finding, KeyName, KeyState, KeyringFacts, KeyringName, KmsCalls, LatestRotation,
    PLAN_LIMIT, Rate, TableSize, Triggers, keyring_findings, kms_calls, written,
};
use rekey_sources::{CensusColumn, Measure, TableMeasure, TableShape};
use rekey_store::{
    columns::{self, Protected},
    keyrings::{self, Keyring},
    keys::{self, Key},
    rotations, speed,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Desired, OperationError, Services,
    census::tables,
    look::{self, find_table, missing_columns, note_error, said, table_subject, unsaid_effects},
};

/// What a rotation of a keyring would do.
#[derive(Debug, Clone, Serialize)]
pub struct RotationPlan {
    /// The keyring.
    pub keyring: KeyringName,
    /// The key that rows would move to: its standby, if it has one.
    pub target: Option<KeyName>,
    /// Its tables, those that could be looked at.
    pub tables: Vec<TablePlan>,
    /// Whether these are all.
    pub complete: bool,
    /// Values to move.
    pub values: u64,
    /// Bytes of write-ahead log or journal, over all tables.
    pub wal_bytes: u64,
    /// Bytes by which files grow, over all tables.
    pub bloat_bytes: u64,
    /// How long moving takes, without what a rotation waits for before and after.
    pub time: TimePlan,
    /// Requests to the KMS.
    pub kms: KmsCalls,
    /// Encryptions under the target.
    pub encryptions: Encryptions,
    /// What stands in the way, and what is good to know.
    pub findings: Vec<Finding>,
}

/// What a rotation would do to a table.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// `source.table`.
    pub table: String,
    /// Its name in its database.
    pub relation: String,
    /// Its heaps.
    pub parts: u64,
    /// Its rows.
    pub rows: u64,
    /// How rows and values were found; sizes of files are always the catalogue's.
    pub found: Basis,
    /// Bytes of the places where rows lie.
    pub heap_bytes: u64,
    /// Bytes of wide values that lie apart.
    pub toast_bytes: u64,
    /// Bytes of its indexes; on SQLite of those that our writes change.
    pub index_bytes: u64,
    /// Bytes of write-ahead log or journal that are expected.
    pub wal_bytes: u64,
    /// Bytes by which its files grow until they are vacuumed.
    pub bloat_bytes: u64,
    /// The share of our updates that is expected to touch no index; null where there is no such thing.
    pub hot_expected: Option<f64>,
    /// The same of its updates so far; null where there were none.
    pub hot_so_far: Option<f64>,
    /// Triggers and rules that fire on updates.
    pub update_triggers: Vec<String>,
    /// What becomes of them: `fire`, `suppress`, or null where nothing was said.
    pub triggers: Option<Triggers>,
    /// Publications that send updates on.
    pub publications: Vec<String>,
    /// Replication slots of its database.
    pub replication_slots: Vec<String>,
    /// Its protected columns of this keyring.
    pub columns: Vec<ColumnPlan>,
}

/// What a rotation would do to a column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// Its name.
    pub column: String,
    /// Values to move.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The indexes that it is part of.
    pub indexes: Vec<String>,
}

/// How long moving the values takes.
#[derive(Debug, Clone, Serialize)]
pub struct TimePlan {
    /// Seconds; null where nothing was measured yet, or not all could be looked at.
    pub seconds: Option<u64>,
    /// Values a second, as they were once moved.
    pub values_per_second: Option<f64>,
    /// The rotation that this was measured at.
    pub rotation: Option<Uuid>,
    /// Where the figure comes from, and what it takes for granted.
    pub assumption: String,
}

/// Encryptions under the target, beside the limit that a plan must fit in.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Encryptions {
    /// Made already.
    pub used: u64,
    /// Of this rotation.
    pub planned: u64,
    /// At most.
    pub limit: u64,
}

/// Looks at everything that a rotation of the keyring would touch.
///
/// # Errors
/// [`OperationError::Store`]; a source that cannot be looked at is a finding.
pub async fn rotation_plan(
    services: &Services,
    desired: &Desired,
    keyring: &KeyringName,
    how: Measure,
) -> Result<RotationPlan, OperationError> {
    let db = services.store.db();
    let keyring = keyrings::by_name(db, keyring).await?;
    let columns = columns::of_keyring(db, keyring.id).await?;
    let keys = keys::of_keyring(db, keyring.id).await?;
    let mut findings = Vec::new();
    let mut planned = Vec::new();
    let mut complete = true;
    for table in tables(&columns) {
        match plan_table(services, desired, &table, how, &mut findings).await? {
            Some(table) => planned.push(table),
            None => complete = false,
        }
    }
    let of_columns = planned.iter().flat_map(|table| &table.columns);
    let values = of_columns.map(|column| column.values).sum();
    let basis = planned.iter().map(|table| table.found).max();
    let basis = basis.unwrap_or(Basis::Counted);
    let standby = keys.iter().find(|key| key.state.0 == KeyState::Pending);
    let used = standby.map_or(0, |key| key.used.unsigned_abs());
    let facts = KeyringFacts {
        keyring: keyring.name.0.to_string(),
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
        keyring: keyring.name.0.clone(),
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
            key.state.0,
            KeyState::Active | KeyState::Inactive | KeyState::Compromised
        )
    };
    keys.iter().filter(holds).count() as u64
}

async fn plan_table(
    services: &Services,
    desired: &Desired,
    columns: &[&Protected],
    how: Measure,
    findings: &mut Vec<Finding>,
) -> Result<Option<TablePlan>, OperationError> {
    let first = columns[0];
    let Some(found) = find_table(services, first, findings).await? else {
        return Ok(None);
    };
    findings.extend(unsaid_effects(desired, first, &found.shape));
    let missing = columns.iter().fold(false, |missing, column| {
        missing_columns(column, &found.shape, findings) || missing
    });
    if missing {
        return Ok(None);
    }
    let wanted: Vec<CensusColumn> = columns.iter().map(|c| look::census_column(c)).collect();
    let relation = &first.table.relation;
    match found.source.measure(relation, &wanted, how).await {
        Ok(measured) => Ok(Some(table_plan(desired, columns, found.shape, measured))),
        Err(error) => {
            note_error(findings, table_subject(first), &error);
            Ok(None)
        }
    }
}

fn table_plan(
    desired: &Desired,
    columns: &[&Protected],
    shape: TableShape,
    measured: TableMeasure,
) -> TablePlan {
    let first = columns[0];
    let size = size(&measured);
    let written = written(measured.storage, &size);
    let share = |(updates, hot): (u64, u64)| (updates > 0).then(|| hot as f64 / updates as f64);
    let columns = columns.iter().zip(measured.columns);
    let column = |(column, measured): (&&Protected, rekey_sources::ColumnMeasure)| ColumnPlan {
        column: column.spec.name.to_string(),
        values: measured.values,
        bytes: measured.bytes,
        indexes: measured.indexes,
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
        triggers: said(desired, first).triggers,
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
    let rotations = rotations::of_keyring(services.store.db(), keyring.id).await?;
    Ok(rotations.into_iter().next().map(|rotation| LatestRotation {
        id: rotation.id.to_string(),
        state: rotation.state.0,
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
        let assumption = "not measured yet: no rotation has moved values of this keyring or of its sources. Assumed is nothing; the time is the number of values by the rate that a first rotation will show";
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
