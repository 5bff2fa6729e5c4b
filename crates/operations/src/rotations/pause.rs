//! Pausing a rotation, by a person or because of an error that needs one, and resuming it.

use std::time::Duration;

use rekey_domain::Principal;
use rekey_messages::RotationDue;
use rekey_runtime::{Job, JobError};
use rekey_store::{
    Unit, audit, batches,
    rotations::{self, Rotation},
};
use serde_json::json;
use uuid::Uuid;

use super::renamed;
use crate::{Action, OperationError, Services, access::audited::Audited};

/// How long until work that failed before the rotation was resumed is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Puts a live rotation on hold: nothing is dispatched any more, and what is in flight ends.
///
/// # Errors
/// [`OperationError::Refused`] for a rotation that is over, and for one that still has to replace a compromised key.
pub async fn pause_rotation(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::Pause).await?;
    let rotation = live(&asked.unit, id).await?;
    if rotation.paused {
        let why = rotation.paused_because.unwrap_or_default();
        return Err(OperationError::Refused(format!(
            "rotation {id} is paused already, as {why}"
        )));
    }
    if rotation.lacks_its_key() {
        return Err(OperationError::Refused(format!(
            "rotation {id} replaces a compromised key, and waits for no person until it has switched; it is paused then"
        )));
    }
    rotations::pause(&asked.unit, &rotation, &format!("by {principal}")).await?;
    asked
        .commit(audit::Action::RotationPaused, &id.to_string(), json!({}))
        .await
}

/// Lets a rotation go on where it stopped.
///
/// # Errors
/// [`OperationError::Refused`] for a rotation that is not on hold, or that is on hold because of values under keys that
/// this store never had.
pub async fn resume_rotation(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    resume(services, id, false, principal).await
}

/// The same, also over values under keys that this store never had: they are left as they are, in quarantine.
///
/// # Errors
/// [`OperationError::Refused`] for a rotation that is not on hold.
pub async fn resume_over_unknown_keys(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    resume(services, id, true, principal).await
}

async fn resume(
    services: &Services,
    id: Uuid,
    accept_unknown_keys: bool,
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::Resume).await?;
    let rotation = live(&asked.unit, id).await?;
    if !rotation.paused {
        return Err(OperationError::Refused(format!(
            "rotation {id} is not paused"
        )));
    }
    let for_unknown_keys = rotation.unknown_keys_accepted == Some(false);
    if for_unknown_keys && !accept_unknown_keys {
        let why = rotation.paused_because.unwrap_or_default();
        return Err(OperationError::Refused(format!(
            "rotation {id} is paused, as {why}; where these may be left as they are, in quarantine: rekey rotations resume {id} --accept-unknown-keys"
        )));
    }
    rotations::resume(&asked.unit, &rotation).await?;
    batches::resend_now(&asked.unit, &rotation).await?;
    asked.unit.send(&RotationDue { rotation: id }).await?;
    let details = if for_unknown_keys {
        json!({ "unknown_keys": "accepted", "found": rotation.paused_because })
    } else {
        json!({})
    };
    asked
        .commit(audit::Action::RotationResumed, &id.to_string(), details)
        .await
}

/// Ends a job of the rotation that was read as `seen` before. If every further attempt would fail alike, puts the
/// rotation on hold and ends the job. That writes no audit entry, as the KMS that seals entries may be the cause; a
/// person resumes the rotation, and that is audited.
///
/// # Errors
/// Any other error of `done`, and [`StoreError`](rekey_store::StoreError) of the database.
pub async fn or_pause(
    job: &Job,
    seen: &Rotation,
    done: Result<(), OperationError>,
) -> Result<(), JobError> {
    let error = match done {
        // A rotation that still has to replace a compromised key waits for no person, and is tried again.
        Err(error) if error.pauses() && !seen.lacks_its_key() => error,
        done => return Ok(done?),
    };
    let Some(unit) = job.begin().await? else {
        return Ok(());
    };
    let mut why = error.to_string();
    if let Some(helps) = renamed::helps(unit.db(), seen, &error).await? {
        why = format!("{why}. {helps}");
    }
    if !rotations::pause_unless_resumed(&unit, seen, &why).await? {
        tracing::info!(rotation = %seen.id, %error, "failed before the rotation was resumed; tried again");
        return Err(JobError::Snooze(TRY_AGAIN));
    }
    unit.commit().await?;
    tracing::error!(rotation = %seen.id, %error, "the rotation is paused; mend the cause, then rekey rotations resume");
    Ok(())
}

async fn live(unit: &Unit, id: Uuid) -> Result<Rotation, OperationError> {
    let rotation = rotations::by_id(unit.db(), id).await?;
    if rotation.state.is_live() {
        return Ok(rotation);
    }
    let state = rotation.state;
    Err(OperationError::Refused(format!(
        "rotation {id} is {state}; only one that is under way is paused or resumed"
    )))
}
