//! The steps after the grace period: sweep, count, and complete with a certificate.

use chrono::{DateTime, Utc};
use rekey_domain::{AlertKind, Found, KeyId, KeyState, Purpose, Worker};
use rekey_operations::{CensusRow, OperationError, census_of_columns, not_sealed_under};
use rekey_runtime::crash;
use rekey_sources::SourceError;
use rekey_store::{
    Unit, alerts,
    census::{self, Count},
    columns::Protected,
    emptied, incidents, keyrings, keys, quarantine, reopened, rotations, sweeps,
};
use uuid::Uuid;

use crate::{
    advance::Advance,
    certificate, changed_parts, facts,
    late::{self, End},
    proof, sign,
};

/// The grace period is over: the first sweep is planned.
pub async fn begin(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::begin_verifying(&unit, &advance.rotation).await?;
    unit.commit().await?;
    crash::point("rotator.verifying");
    Ok(())
}

/// Counts every value of the columns that it is about. Figures on a certificate come from here only.
pub async fn take_census(advance: &Advance<'_>) -> Result<(), OperationError> {
    if changed_parts::plan_changed_parts(advance).await? {
        return Ok(());
    }
    let columns = sweeps::columns_of(advance.services.store.db(), &advance.rotation).await?;
    let Some(pass) = proof::of_pass(advance, &columns).await? else {
        return Ok(());
    };
    let counted = match census_of_columns(advance.services, &columns, Some(&pass)).await {
        // It failed like this once before, and there was no new part: the pass did not read what is there now.
        Err(OperationError::Source(SourceError::PartChanged { part, .. }))
            if advance.rotation.waiting_because.is_some() =>
        {
            tracing::warn!(rotation = %advance.rotation.id, part, "the pass did not read what there is; sweeping again");
            let now = advance.services.store.now().await?;
            return next_pass(advance, now, &End::Open).await;
        }
        counted => counted?,
    };
    record(advance, advance.rotation.pass, &columns, &counted).await?;
    crash::point("rotator.counted");
    Ok(())
}

/// Stores a census and has the rotation looked at again.
pub async fn record(
    advance: &Advance<'_>,
    pass: i32,
    columns: &[Protected],
    counted: &[CensusRow],
) -> Result<(), OperationError> {
    let settled = facts::settled(advance.services.store.db(), &advance.rotation).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    for column in columns {
        let of_column = counted.iter().filter(|row| row.column_id == column.id);
        let mut counts: Vec<Count> = of_column.clone().map(count).collect();
        if counts.is_empty() {
            counts.push(nothing(advance));
        }
        let taken_at = of_column.clone().next();
        let taken_at = taken_at.map_or(unit.now(), |row| row.taken_at);
        let of = advance.rotation.id;
        if let Some(row) = of_column.clone().next() {
            let (rotation, id) = (&advance.rotation, column.id);
            quarantine::stands_still(&unit, rotation, id, &row.standing).await?;
            let gone = (&**row.gone, &settled);
            quarantine::stands_elsewhere(&unit, rotation, id, gone).await?;
        }
        reopened::forget(&unit, column.id).await?;
        let column = (column.id, &*facts::place_of(column));
        census::record(&unit, of, pass, column, &counts, taken_at).await?;
    }
    unit.send(&advance.due()).await?;
    Ok(unit.commit().await?)
}

fn count(row: &CensusRow) -> Count {
    Count {
        found: row.found,
        rows: row.rows,
        quarantined: row.left,
    }
}

/// A column without values was counted too.
fn nothing(advance: &Advance<'_>) -> Count {
    let target = advance.rotation.target_key_id;
    Count {
        found: Found::Key(target.unwrap_or(KeyId::new(0))),
        rows: 0,
        quarantined: 0,
    }
}

/// Rows were written under an old key since: another sweep, later.
pub async fn sweep_again(advance: &Advance<'_>, at: DateTime<Utc>) -> Result<(), OperationError> {
    let columns = sweeps::columns_of(advance.services.store.db(), &advance.rotation).await?;
    match late::end(advance, &columns).await? {
        End::NotYet => Ok(()),
        end => next_pass(advance, at, &end).await,
    }
}

async fn next_pass(
    advance: &Advance<'_>,
    at: DateTime<Utc>,
    end: &End,
) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    if matches!(end, End::Closes) {
        late::close(&unit, advance).await?;
    }
    rotations::sweep_again(&unit, &advance.rotation, Some(at)).await?;
    unit.commit().await?;
    tracing::warn!(rotation = %advance.rotation.id, %at, "stragglers under an old key; sweeping again");
    Ok(())
}

/// Nothing is left below the target.
pub async fn complete(advance: &Advance<'_>) -> Result<(), OperationError> {
    refuse_unsealed(advance).await?;
    let pen = advance.services.pen(&Worker::Rotator.principal()).await?;
    let db = advance.services.store.db();
    let now = advance.services.store.now().await?;
    let certificate = certificate::write(db, &advance.rotation, &advance.keyring, now).await?;
    let certificate = serde_json::to_value(certificate).expect("a certificate has text keys");
    let kind = advance.rotation.kind;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    // Locked, so that nobody protects another column of the keyring until this is over.
    keyrings::lock(&unit, advance.keyring.id).await?;
    let columns = sweeps::columns_of(unit.db(), &advance.rotation).await?;
    let facts = facts::gather(unit.db(), &advance.rotation, None).await?;
    if facts.census.is_none_or(|census| census.below_target > 0) {
        unit.send(&advance.due()).await?;
        return Ok(unit.commit().await?);
    }
    tell_of_keys(&unit, advance).await?;
    late::close(&unit, advance).await?;
    let columns: Vec<_> = columns.iter().map(|column| column.id).collect();
    tell_of_late(&unit, advance, &columns).await?;
    let of = (&advance.rotation, &advance.keyring);
    rotations::complete(&unit, &pen, of, &columns, &certificate, sign::LOOK_AGAIN).await?;
    unit.commit().await?;
    crash::point("rotator.completed");
    tracing::info!(rotation = %advance.rotation.id, %kind, "rotation completed");
    Ok(())
}

/// What a BACKUP key seals is no row of a source: it is left behind until the verifier has sealed and proved it anew.
async fn refuse_unsealed(advance: &Advance<'_>) -> Result<(), OperationError> {
    let target = advance.rotation.target_key_id;
    let Some(target) = target.filter(|_| advance.keyring.purpose == Purpose::Backup) else {
        return Ok(());
    };
    let left = not_sealed_under(advance.services.store.db(), target).await?;
    let Some(first) = left.first() else {
        return Ok(());
    };
    Err(OperationError::NotYet(format!(
        "bundles of {} key(s) are not proved under the new BACKUP key yet, {first} among them: the backup-verifier does it, rekey backups list says how far it is",
        left.len()
    )))
}

/// Raises and clears alerts by the last census: for keys that no value of ours should be under. It also counted what is
/// in quarantine. That nothing is left is known only where all columns were counted.
async fn tell_of_keys(unit: &Unit, advance: &Advance<'_>) -> Result<(), OperationError> {
    let (rotation, keyring) = (&advance.rotation, &advance.keyring);
    let of_all = rotation.sweep_columns.is_none();
    let counted = census::of_pass(unit.db(), rotation.id, rotation.pass).await?;
    // Of a keyring that protects nothing nothing was counted.
    if counted.is_empty() {
        return Ok(());
    }
    // What cannot be read, or is written in another way, may stand under any key.
    let cannot_be_told = counted.iter().any(|count| {
        matches!(count.found(), Found::Unreadable | Found::NotCiphertext) && count.rows() > 0
    });
    for key in keys::of_keyring(unit.db(), keyring.id).await? {
        let under = counted
            .iter()
            .filter(|count| count.found() == Found::Key(key.id));
        let values: u64 = under.map(census::Counted::rows).sum();
        let name = key.name(keyring).to_string();
        let incident = incidents::latest_of_key(unit.db(), key.id).await?;
        match (key.activated_at, values) {
            // A part of the columns tells neither how many nor that there are none.
            (None, _) if !of_all => {}
            (None, 0) => alerts::clear(unit, AlertKind::NeverActive, &name).await?,
            (None, _) => {
                alerts::raise(unit, AlertKind::NeverActive, &name, incident, values).await?;
            }
            _ if key.state != KeyState::Compromised => {}
            // It is read by nobody much longer, and may be destroyed.
            (_, 0)
                if of_all
                    && !cannot_be_told
                    && key.emptied_at.is_none()
                    && quarantine::count_under(unit.db(), key.id).await? == 0 =>
            {
                keys::note_emptied(unit, &key).await?;
                alerts::raise(unit, AlertKind::KeyMayBeDestroyed, &name, incident, 0).await?;
            }
            (_, 0) => {}
            _ => emptied::come_back(unit, keyring, &key).await?,
        }
    }
    Ok(())
}

/// Values that were written under a compromised key after its rows were moved.
async fn tell_of_late(
    unit: &Unit,
    advance: &Advance<'_>,
    columns: &[Uuid],
) -> Result<(), OperationError> {
    let rotation = &advance.rotation;
    let kind = AlertKind::WrittenAfterCompromise;
    for key in keys::of_keyring(unit.db(), advance.keyring.id).await? {
        if key.closed_at.is_none() {
            continue;
        }
        let name = key.name(&advance.keyring).to_string();
        match quarantine::open_as_late(unit.db(), key.id, (rotation, columns)).await? {
            0 => alerts::clear(unit, kind, &name).await?,
            late => {
                let incident = incidents::latest_of_key(unit.db(), key.id).await?;
                alerts::raise(unit, kind, &name, incident, late).await?;
            }
        }
    }
    Ok(())
}
