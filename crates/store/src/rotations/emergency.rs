//! Emergencies: a rotation that replaces a compromised key at once, and one under way that hurries for it.

use rekey_domain::{Principal, RotationReason};
use sea_orm::ActiveValue::{NotSet, Set};
use uuid::Uuid;

use crate::{
    StoreError, Unit, batches, incidents,
    keys::keyrings::Keyring,
    rotations::{
        self, Changes, LOOK_AGAIN, Rotation, sweeps,
        transitions::{planned_anew, wake},
        update,
    },
};

/// Starts the rotation that replaces a compromised primary key. The keyring is locked.
///
/// # Errors
/// [`StoreError::Stale`] when the keyring has a live rotation.
pub async fn start(
    unit: &Unit,
    keyring: &Keyring,
    incident: Uuid,
    principal: &Principal,
) -> Result<Rotation, StoreError> {
    // Older programs know this reason, and no other would tell them more.
    let row = rotations::new(unit, keyring.id, RotationReason::Request, principal);
    let row = Changes {
        urgent: Set(true),
        incident_id: Set(Some(incident)),
        resend_at: Set(unit.database_time_in(LOOK_AGAIN)),
        ..row
    };
    let started = rotations::insert(unit, row).await?;
    wake(unit, &started).await?;
    Ok(started)
}

/// Starts an urgent sweep of all columns, of what is left under a compromised key that was replaced. The keyring is
/// locked.
///
/// # Errors
/// As [`sweeps::start`].
pub async fn sweep(
    unit: &Unit,
    keyring: &Keyring,
    incident: Uuid,
    principal: &Principal,
) -> Result<Rotation, StoreError> {
    let started = sweeps::start(unit, keyring, &[], RotationReason::Request, principal).await?;
    let started = answer(unit, &started, Some(incident)).await?;
    wake(unit, &started).await?;
    Ok(started)
}

/// Makes a rotation that took the place of another answer the same reports. Returns it as it is then.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn take_over(
    unit: &Unit,
    earlier: &Rotation,
    started: &Rotation,
) -> Result<Rotation, StoreError> {
    incidents::hand_over(unit, earlier.id, started.id).await?;
    answer(unit, started, earlier.incident_id).await
}

/// Has a rotation that was just started answer a report. Gives it as it is then.
async fn answer(
    unit: &Unit,
    started: &Rotation,
    incident: Option<Uuid>,
) -> Result<Rotation, StoreError> {
    let changes = Changes {
        urgent: Set(true),
        incident_id: Set(incident),
        ..Default::default()
    };
    update(unit, started, changes).await?;
    rotations::by_id(unit.db(), started.id).await
}

/// Makes a rotation under way hurry: its batches overtake others, it waits only for leases, and it is no longer on
/// hold.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn hurry(unit: &Unit, rotation: &Rotation, incident: Uuid) -> Result<(), StoreError> {
    let of_a_canary = match rotation.only_column {
        Some(_) => planned_anew(),
        None => Changes::default(),
    };
    let changes = Changes {
        urgent: Set(true),
        incident_id: Set(Some(incident)),
        paused: Set(false),
        paused_because: Set(None),
        due_at: Set(None),
        pause_after: Set(None),
        only_column: Set(None),
        // Of the key that was reported nothing is known to be over.
        fences: Set(None),
        late_pass: Set(None),
        resumptions: Set(rotation.resumptions + i32::from(rotation.paused)),
        unknown_keys_accepted: match rotation.unknown_keys_accepted {
            Some(_) => Set(Some(true)),
            None => NotSet,
        },
        ..of_a_canary
    };
    update(unit, rotation, changes).await?;
    batches::resend_now(unit, rotation).await?;
    wake(unit, rotation).await
}
