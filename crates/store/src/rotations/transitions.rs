//! What becomes of a rotation, verb by verb, each with the messages and the audit entry that follow from it.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use rekey_domain::{AlertKind, BackupProof, KeyName, Part, RotationKind, RotationState};
use rekey_messages::{
    CertificateWanted, KeyringChanged, RotationCompleted, RotationDue, RotationFailed,
    StandbyWanted,
};
use sea_orm::ActiveValue::{NotSet, Set};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    StoreError, Unit, alerts,
    audit::{self, AuditPen, Record},
    backups, batches,
    database::stored::{Id, Json},
    keys::{self, Key, keyrings::Keyring},
    quarantine,
    rotations::{Changes, Rotation, change_state, update},
};

/// A live rotation is looked at again after this at the latest, whatever message was lost (rule 2).
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Puts off the scheduler's own look at a rotation.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn look_again(
    unit: &Unit,
    rotation: &Rotation,
    within: Duration,
) -> Result<(), StoreError> {
    let changes = Changes {
        resend_at: Set(unit.database_time_in(within)),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Has a rotation wait until `due`, and be looked at within `within` anyway. Stores a date that the rules shortened
/// after a step of the clock: otherwise every look would shorten it again, and it would never come.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn wait_until(
    unit: &Unit,
    rotation: &Rotation,
    due: Option<DateTime<Utc>>,
    within: Duration,
) -> Result<(), StoreError> {
    let changes = Changes {
        resend_at: Set(unit.database_time_in(within)),
        due_at: Set(due.or(rotation.due_at)),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Says what a rotation waits for, and since when.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn note_waiting(unit: &Unit, rotation: &Rotation, why: &str) -> Result<(), StoreError> {
    let since = rotation.waiting_since;
    let changes = Changes {
        waiting_because: Set(Some(why.to_owned())),
        waiting_since: Set(since.or(Some(unit.database_time_in(Duration::ZERO)))),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Keeps each source's mark, by the source's id: transactions that were open at it must end before a census counts.
/// None: the marks are taken again.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn note_fences(
    unit: &Unit,
    rotation: &Rotation,
    fences: Option<HashMap<Uuid, String>>,
) -> Result<(), StoreError> {
    let changes = Changes {
        fences: Set(fences.map(Json)),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Hands the standby to clients, for decryption, until `due`.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn distribute(
    unit: &Unit,
    rotation: &Rotation,
    keyring: &Keyring,
    due: DateTime<Utc>,
) -> Result<(), StoreError> {
    let standby = keys::standby(unit.db(), keyring.id).await?;
    let changes = Changes {
        target_key_id: Set(standby.map(|key| Id(key.id))),
        due_at: Set(Some(due)),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::Distributing, changes).await?;
    tell(unit, keyring).await?;
    wake_at(unit, rotation, due).await
}

/// The standby that was distributed is gone: back to waiting for one.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn restart(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = Changes {
        target_key_id: Set(None),
        due_at: Set(None),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::Requested, changes).await?;
    wake(unit, rotation).await
}

/// The switch, in one unit: the standby becomes primary, the primary inactive, and the next standby is ordered. Returns
/// the new primary; none if the distributed standby was retired meanwhile.
///
/// # Errors
/// [`StoreError::Refused`] where the backup gate or the state machine says no, [`StoreError::Stale`] where a state
/// changed meanwhile.
pub async fn switch(
    unit: &Unit,
    pen: &AuditPen,
    rotation: &Rotation,
    keyring: &Keyring,
) -> Result<Option<KeyName>, StoreError> {
    let standby = keys::standby(unit.db(), keyring.id).await?;
    // In an emergency nothing was distributed before.
    let is_wanted = |key: &Key| match rotation.state {
        RotationState::Requested => true,
        _ => Some(key.id) == rotation.target_key_id,
    };
    let Some(standby) = standby.filter(is_wanted) else {
        return Ok(None);
    };
    let policy = &keyring.policy;
    let proof = backups::proof_of(unit.db(), policy.backup, standby.id).await?;
    // An emergency waits for no drill.
    let proof = proof.or(rotation.incident_id.map(|incident| BackupProof::Waived {
        incident: incident.as_u128(),
    }));
    if let Some(BackupProof::Waived { .. }) = proof {
        let name = standby.name(keyring).to_string();
        alerts::raise(
            unit,
            AlertKind::BackupWaived,
            &name,
            rotation.incident_id,
            0,
        )
        .await?;
    }
    keys::switch(unit, keyring, &standby, policy, proof).await?;
    let changes = Changes {
        target_key_id: Set(Some(Id(standby.id))),
        previous_key_id: Set(keyring.primary_key_id.map(Id)),
        switched_at: Set(Some(unit.now())),
        due_at: Set(None),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::ReEncrypting, changes).await?;
    keys_changed(unit, keyring).await?;
    wake(unit, rotation).await?;
    let name = standby.name(keyring);
    let details = json!({ "rotation": rotation.id, "key_id": standby.id, "algorithm": standby.algorithm, "backup": policy.backup });
    let record = Record {
        action: audit::Action::KeyActivated,
        subject: &name.to_string(),
        outcome: "done",
        details,
    };
    pen.append(unit, record).await?;
    Ok(Some(name))
}

/// Has every process ask for a keyring's keys again, and its next standby made.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn keys_changed(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    tell(unit, keyring).await?;
    order_standby(unit, keyring).await
}

/// Has a keyring's next standby made.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn order_standby(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let keyring = keyring.name.clone();
    unit.send(&StandbyWanted { keyring }).await
}

/// How far the plan of a pass has come.
#[derive(Debug)]
pub struct PlanPosition {
    /// The table that is planned next, by its place among those of the keyring.
    pub table: i32,
    /// Its part that is under way.
    pub part: Option<Part>,
    /// The last place of the part that has a range.
    pub after: Option<i64>,
    /// Whether all is planned.
    pub complete: bool,
    /// The columns that the pass reads.
    pub columns: Vec<Uuid>,
    /// Whether the pass begins now, and nobody can write under a compromised key any more.
    pub is_late: bool,
}

/// Notes how far the plan of a pass has come. A column that is protected later is not read in batches that were done
/// by then, so those of the first plan stay.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn note_plan(
    unit: &Unit,
    rotation: &Rotation,
    position: PlanPosition,
) -> Result<(), StoreError> {
    let changes = Changes {
        planned: Set(position.complete),
        plan_table: Set(position.table),
        plan_part: Set(position.part.map(Json)),
        plan_after: Set(position.after),
        resend_at: Set(unit.database_time_in(batches::RESEND_AFTER)),
        pass_columns: match &rotation.pass_columns {
            None => Set(Some(Json(position.columns))),
            Some(_) => NotSet,
        },
        late_pass: match position.is_late {
            true => Set(Some(rotation.pass)),
            false => NotSet,
        },
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Has the ranges of the present pass planned anew; what has ranges in it already keeps them.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn plan_anew(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    update(unit, rotation, planned_anew()).await?;
    wake(unit, rotation).await
}

/// Why a rotation is on hold by itself: a person has to look before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The canary is done. Resumed, the rotation plans what has no ranges yet.
    CanaryIsDone,
    /// So many values are under keys that this store never had.
    UnknownKeys,
    /// So many values are gone since the last rotation.
    FewerValues,
}

/// Puts a rotation on hold, and says why in the audit log too.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn pause_for(
    unit: &Unit,
    pen: &AuditPen,
    rotation: &Rotation,
    (cause, why): (Cause, &str),
) -> Result<(), StoreError> {
    let changes = match cause {
        Cause::CanaryIsDone => Changes {
            only_column: Set(None),
            ..planned_anew()
        },
        Cause::FewerValues => Changes::default(),
        Cause::UnknownKeys => Changes {
            unknown_keys_accepted: Set(Some(false)),
            ..Default::default()
        },
    };
    let changes = Changes {
        paused: Set(true),
        paused_because: Set(Some(why.to_owned())),
        ..changes
    };
    update(unit, rotation, changes).await?;
    let record = Record {
        action: audit::Action::RotationPaused,
        subject: &rotation.id.to_string(),
        outcome: "done",
        details: json!({ "because": why }),
    };
    pen.append(unit, record).await
}

/// All rows are moved: clients that have not refreshed are waited out, until `due`.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn begin_grace(
    unit: &Unit,
    rotation: &Rotation,
    due: DateTime<Utc>,
) -> Result<(), StoreError> {
    let changes = Changes {
        due_at: Set(Some(due)),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::Grace, changes).await?;
    wake_at(unit, rotation, due).await
}

/// The grace period is over: all ranges are gone over once more.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn begin_verifying(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = next_pass(rotation);
    move_to(unit, rotation, RotationState::Verifying, changes).await?;
    wake(unit, rotation).await
}

/// Has all ranges gone over once more, from `at` on, in another pass.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn sweep_again(
    unit: &Unit,
    rotation: &Rotation,
    at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    let changes = Changes {
        due_at: Set(at),
        ..next_pass(rotation)
    };
    update(unit, rotation, changes).await?;
    match at {
        Some(at) => wake_at(unit, rotation, at).await,
        None => Ok(()),
    }
}

/// Nothing is left below the target. Resolves what is in quarantine of these columns and was not met in the last pass,
/// which read every row. The certificate is to be signed within `sign_within`.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn complete(
    unit: &Unit,
    pen: &AuditPen,
    (rotation, keyring): (&Rotation, &Keyring),
    columns: &[Uuid],
    certificate: &Value,
    sign_within: Duration,
) -> Result<(), StoreError> {
    let changes = Changes {
        certificate: Set(Some(certificate.to_string())),
        certificate_due: Set(Some(unit.database_time_in(sign_within))),
        due_at: Set(None),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::Completed, changes).await?;
    quarantine::resolve_what_was_not_met(unit, rotation, columns.iter().copied()).await?;
    let (id, kind) = (rotation.id, rotation.kind);
    unit.send(&CertificateWanted { rotation: id }).await?;
    let all = keys::of_keyring(unit.db(), keyring.id).await?;
    let target = all
        .iter()
        .find(|key| Some(key.id) == rotation.target_key_id);
    if let Some(key) = target.map(|key| key.name(keyring)) {
        unit.send(&RotationCompleted {
            rotation: id,
            key,
            kind,
        })
        .await?;
    }
    let record = Record {
        action: match kind {
            RotationKind::Switch => audit::Action::RotationCompleted,
            RotationKind::Sweep => audit::Action::SweepCompleted,
        },
        subject: keyring.name.as_str(),
        outcome: "done",
        details: json!({ "rotation": id, "certificate": certificate }),
    };
    pen.append(unit, record).await
}

/// Ends a rotation as failed: a person mends the cause and has it retried.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn fail(
    unit: &Unit,
    pen: &AuditPen,
    (rotation, keyring): (&Rotation, &Keyring),
    why: &str,
) -> Result<(), StoreError> {
    let changes = Changes {
        failure: Set(Some(why.to_owned())),
        ..Default::default()
    };
    move_to(unit, rotation, RotationState::Failed, changes).await?;
    let kind = rotation.kind;
    let failed = RotationFailed {
        rotation: rotation.id,
        keyring: keyring.name.clone(),
        reason: why.to_owned(),
        kind,
    };
    unit.send(&failed).await?;
    let record = Record {
        action: match kind {
            RotationKind::Switch => audit::Action::RotationFailed,
            RotationKind::Sweep => audit::Action::SweepFailed,
        },
        subject: keyring.name.as_str(),
        outcome: "failed",
        details: json!({ "rotation": rotation.id, "reason": why }),
    };
    pen.append(unit, record).await
}

/// Takes a failed rotation up where it was.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn retry(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let next = rotation.kind.retried_in(rotation.pass == 0);
    change_state(unit, rotation, next, Changes::default()).await
}

/// A later rotation takes its rows along.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn supersede(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = Changes::default();
    change_state(unit, rotation, RotationState::Superseded, changes).await
}

/// Changes the state, and has the scheduler look again should the next message be lost.
async fn move_to(
    unit: &Unit,
    rotation: &Rotation,
    next: RotationState,
    changes: Changes,
) -> Result<(), StoreError> {
    let changes = Changes {
        resend_at: Set(unit.database_time_in(LOOK_AGAIN)),
        ..changes
    };
    change_state(unit, rotation, next, changes).await
}

pub(super) fn planned_anew() -> Changes {
    Changes {
        planned: Set(false),
        plan_table: Set(0),
        plan_part: Set(None),
        plan_after: Set(None),
        ..Default::default()
    }
}

fn next_pass(rotation: &Rotation) -> Changes {
    Changes {
        pass: Set(rotation.pass + 1),
        pass_columns: Set(None),
        late_pass: Set(None),
        due_at: Set(None),
        ..planned_anew()
    }
}

/// Every process asks the store for the keyring again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn tell(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let keyring = keyring.name.clone();
    unit.send(&KeyringChanged { keyring }).await
}

pub(super) async fn wake(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let rotation = rotation.id;
    unit.send(&RotationDue { rotation }).await
}

async fn wake_at(unit: &Unit, rotation: &Rotation, at: DateTime<Utc>) -> Result<(), StoreError> {
    let wait = (at - unit.now()).to_std().unwrap_or_default();
    let rotation = rotation.id;
    unit.send_after(&RotationDue { rotation }, wait).await
}
