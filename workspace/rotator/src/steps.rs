//! The steps up to the grace period: wait, distribute, switch, fail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{BackupPolicy, BackupProof, RotationState};
use rekey_messages::{KeyringChanged, RotationFailed, StandbyWanted};
use rekey_operations::OperationError;
use rekey_runtime::crash;
use rekey_store::{Unit, audit::Record, batches, keys, rotations, rotations::Changes};
use sea_orm::ActiveValue::Set;
use serde_json::json;

use crate::{advance::Advance, plan};

/// A live rotation is looked at again after this at the latest, whatever message was lost (rule 2).
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN_WAITING: Duration = Duration::from_secs(10 * 60);

/// Puts off the scheduler's own look at the rotation.
pub async fn look_again(
    unit: &Unit,
    advance: &Advance<'_>,
    within: Duration,
) -> Result<(), OperationError> {
    let resend_at = Set(unit.database_time_in(within));
    Ok(rotations::update(
        unit,
        &advance.rotation,
        Changes {
            resend_at,
            ..Default::default()
        },
    )
    .await?)
}

/// Nothing to do now but what should be under way anyhow: batches that wait though there is room,
/// as after `rotations retry`.
pub async fn wait(advance: &Advance<'_>, due: Option<DateTime<Utc>>) -> Result<(), OperationError> {
    let dispatch = advance.dispatch().await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let within = due.map_or(LOOK_AGAIN, |due| {
        until(due, unit.now()).min(LOOK_AGAIN_WAITING)
    });
    let resend_at = Set(unit.database_time_in(within));
    // The rules cut a wait that a step of the clock made too long; that must hold from now on, or
    // it would be cut anew at every look and never end.
    let due_at = Set(due.or(advance.rotation.due_at));
    let changes = Changes {
        resend_at,
        due_at,
        ..Default::default()
    };
    rotations::update(&unit, &advance.rotation, changes).await?;
    if due.is_none() && advance.rotation.state.0.is_live() {
        let held = rotations::lock(&unit, advance.rotation.id).await?;
        dispatch.run(&unit, &held).await?;
    }
    Ok(unit.commit().await?)
}

/// The time from `now` to `due`; nothing if it has passed.
pub fn until(due: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (due - now).to_std().unwrap_or_default()
}

/// Has a standby made.
pub async fn order_standby(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    unit.send(&StandbyWanted {
        keyring: advance.keyring.name.0.clone(),
    })
    .await?;
    look_again(&unit, advance, LOOK_AGAIN).await?;
    Ok(unit.commit().await?)
}

/// Hands the standby to clients, for decryption.
pub async fn distribute(advance: &Advance<'_>, due: DateTime<Utc>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let standby = keys::standby(unit.db(), advance.keyring.id).await?;
    let target_key_id = Set(standby.map(|key| key.key_id));
    let changes = Changes {
        target_key_id,
        due_at: Set(Some(due)),
        ..Default::default()
    };
    move_to(&unit, advance, RotationState::Distributing, changes).await?;
    unit.send(&KeyringChanged {
        keyring: advance.keyring.name.0.clone(),
    })
    .await?;
    unit.send_after(&advance.due(), until(due, unit.now()))
        .await?;
    unit.commit().await?;
    crash::point("rotator.distributed");
    Ok(())
}

/// The standby is gone: back to waiting for one.
pub async fn restart(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let changes = Changes {
        target_key_id: Set(None),
        due_at: Set(None),
        ..Default::default()
    };
    move_to(&unit, advance, RotationState::Requested, changes).await?;
    unit.send(&advance.due()).await?;
    Ok(unit.commit().await?)
}

/// The switch: standby to primary, primary to inactive, next standby ordered, in one unit.
pub async fn switch(advance: &Advance<'_>) -> Result<(), OperationError> {
    let pen = advance.services.pen(&crate::principal()).await?;
    crash::point("rotator.before-switch");
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let keyring = &advance.keyring;
    // What was distributed may have been retired since, and another made.
    let standby = keys::standby(unit.db(), keyring.id).await?;
    let target = advance.rotation.target_key_id;
    let Some(standby) = standby.filter(|key| Some(key.key_id) == target) else {
        return Ok(());
    };
    let policy = &keyring.policy.0;
    let proof = (policy.backup == BackupPolicy::Off).then_some(BackupProof::NotRequired);
    keys::switch(&unit, keyring, &standby, policy, proof).await?;
    let changes = Changes {
        previous_key_id: Set(keyring.primary_key_id),
        switched_at: Set(Some(unit.now())),
        due_at: Set(None),
        ..Default::default()
    };
    move_to(&unit, advance, RotationState::ReEncrypting, changes).await?;
    unit.send(&StandbyWanted {
        keyring: keyring.name.0.clone(),
    })
    .await?;
    unit.send(&KeyringChanged {
        keyring: keyring.name.0.clone(),
    })
    .await?;
    unit.send(&advance.due()).await?;
    let subject = standby.name(keyring).to_string();
    let details = json!({ "rotation": advance.rotation.id, "key_id": standby.id(), "algorithm": standby.algorithm.0, "backup": policy.backup });
    pen.append(
        &unit,
        Record {
            action: "key.activated",
            subject: &subject,
            outcome: "done",
            details,
        },
    )
    .await?;
    unit.commit().await?;
    crash::point("rotator.switched");
    tracing::info!(key = subject, "primary key switched");
    Ok(())
}

/// All rows are moved: wait out clients that have not refreshed.
pub async fn begin_grace(advance: &Advance<'_>, due: DateTime<Utc>) -> Result<(), OperationError> {
    if plan::plan_changed_parts(advance).await? {
        return Ok(());
    }
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    move_to(
        &unit,
        advance,
        RotationState::Grace,
        Changes {
            due_at: Set(Some(due)),
            ..Default::default()
        },
    )
    .await?;
    unit.send_after(&advance.due(), until(due, unit.now()))
        .await?;
    unit.commit().await?;
    crash::point("rotator.grace");
    Ok(())
}

/// Batches were given up: the rotation says so, and waits for a person.
pub async fn fail(advance: &Advance<'_>) -> Result<(), OperationError> {
    let db = advance.services.store.db();
    let why = batches::why_failed(db, &advance.rotation).await?;
    give_up(
        advance,
        &why.unwrap_or_else(|| "a batch was given up".to_owned()),
    )
    .await
}

/// Ends a rotation as failed.
pub async fn give_up(advance: &Advance<'_>, why: &str) -> Result<(), OperationError> {
    let pen = advance.services.pen(&crate::principal()).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let changes = Changes {
        failure: Set(Some(why.to_owned())),
        ..Default::default()
    };
    move_to(&unit, advance, RotationState::Failed, changes).await?;
    let (rotation, keyring) = (advance.rotation.id, advance.keyring.name.0.clone());
    let kind = advance.rotation.kind.0;
    unit.send(&RotationFailed {
        rotation,
        keyring: keyring.clone(),
        reason: why.to_owned(),
        kind,
    })
    .await?;
    let details = json!({ "rotation": rotation, "reason": why });
    pen.append(
        &unit,
        Record {
            action: &format!("{}.failed", kind.noun()),
            subject: keyring.as_str(),
            outcome: "failed",
            details,
        },
    )
    .await?;
    unit.commit().await?;
    tracing::error!(%rotation, %kind, why, "rotation failed");
    Ok(())
}

/// Puts the rotation on hold, with other changes of it.
pub async fn pause(
    advance: &Advance<'_>,
    why: &str,
    mut changes: Changes,
) -> Result<(), OperationError> {
    let pen = advance.services.pen(&crate::principal()).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    changes.paused = Set(true);
    changes.paused_because = Set(Some(why.to_owned()));
    rotations::update(&unit, &advance.rotation, changes).await?;
    let subject = advance.rotation.id.to_string();
    let record = Record {
        action: "rotation.paused",
        subject: &subject,
        outcome: "done",
        details: json!({ "because": why }),
    };
    pen.append(&unit, record).await?;
    unit.commit().await?;
    tracing::warn!(rotation = subject, why, "paused");
    Ok(())
}

/// Changes the state, and has the scheduler look again should the next message be lost.
pub async fn move_to(
    unit: &Unit,
    advance: &Advance<'_>,
    next: RotationState,
    mut changes: Changes,
) -> Result<(), OperationError> {
    changes.resend_at = Set(unit.database_time_in(LOOK_AGAIN));
    Ok(rotations::change_state(unit, &advance.rotation, next, changes).await?)
}
