//! The steps up to the grace period: wait, distribute, switch, fail.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use rekey_domain::Worker;
use rekey_operations::OperationError;
use rekey_runtime::crash;
use rekey_store::{
    Unit,
    backups::drills,
    batches,
    keyrings::Keyring,
    keys::{self, Key},
    rotations::{self, Cause, LOOK_AGAIN},
};

use crate::{advance::Advance, changed_parts};

const LOOK_AGAIN_WAITING: Duration = Duration::from_secs(10 * 60);

/// Nothing to do now but what should be under way anyhow: batches that wait though there is room,
/// as after `rotations retry`.
pub async fn wait(advance: &Advance<'_>, due: Option<DateTime<Utc>>) -> Result<(), OperationError> {
    let dispatch = advance.dispatch().await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let within = due.map_or(LOOK_AGAIN, |due| {
        let wait = (due - unit.now()).to_std().unwrap_or_default();
        wait.min(LOOK_AGAIN_WAITING)
    });
    rotations::wait_until(&unit, &advance.rotation, due, within).await?;
    if due.is_none() && advance.rotation.state.is_live() {
        let held = rotations::lock(&unit, advance.rotation.id).await?;
        dispatch.run(&unit, &held).await?;
    }
    Ok(unit.commit().await?)
}

/// Has a standby made.
pub async fn order_standby(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::order_standby(&unit, &advance.keyring).await?;
    match keys::standby(unit.db(), advance.keyring.id).await? {
        Some(standby) => {
            let why = unproved(&unit, &advance.keyring, &standby).await?;
            rotations::note_waiting(&unit, &advance.rotation, &why).await?;
        }
        None => rotations::look_again(&unit, &advance.rotation, LOOK_AGAIN).await?,
    }
    Ok(unit.commit().await?)
}

/// There is a standby, and nobody has proved yet that it comes back from a backup.
async fn unproved(unit: &Unit, keyring: &Keyring, standby: &Key) -> Result<String, OperationError> {
    let name = standby.name(keyring);
    let (mut seen, mut problems) = (HashSet::new(), Vec::new());
    for drill in drills::of_key(unit.db(), standby.id).await? {
        let is_newest = seen.insert(drill.destination.clone());
        if let Some(problem) = drill.problem.filter(|_| is_newest) {
            problems.push(format!("at {}: {}", drill.destination, problem.says()));
        }
    }
    let so_far = match problems.is_empty() {
        true => "the backup-verifier has not come to it".to_owned(),
        false => problems.join("; "),
    };
    Ok(format!(
        "the proof that {name}, the key that is next, comes back from its backup ({so_far}): rekey backups show {name}"
    ))
}

/// Hands the standby to clients, for decryption.
pub async fn distribute(advance: &Advance<'_>, due: DateTime<Utc>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::distribute(&unit, &advance.rotation, &advance.keyring, due).await?;
    unit.commit().await?;
    crash::point("rotator.distributed");
    Ok(())
}

/// The standby is gone: back to waiting for one.
pub async fn restart(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::restart(&unit, &advance.rotation).await?;
    Ok(unit.commit().await?)
}

/// The switch; nothing where what was distributed was retired since, and another made.
pub async fn switch(advance: &Advance<'_>) -> Result<(), OperationError> {
    let pen = advance.services.pen(&Worker::Rotator.principal()).await?;
    crash::point("rotator.before-switch");
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let switched = rotations::switch(&unit, &pen, &advance.rotation, &advance.keyring).await?;
    let Some(key) = switched else {
        return Ok(());
    };
    unit.commit().await?;
    crash::point("rotator.switched");
    tracing::info!(%key, "primary key switched");
    Ok(())
}

/// All rows are moved: wait out clients that have not refreshed.
pub async fn begin_grace(advance: &Advance<'_>, due: DateTime<Utc>) -> Result<(), OperationError> {
    if changed_parts::plan_changed_parts(advance).await? {
        return Ok(());
    }
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::begin_grace(&unit, &advance.rotation, due).await?;
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
    let pen = advance.services.pen(&Worker::Rotator.principal()).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    let of = (&advance.rotation, &advance.keyring);
    rotations::fail(&unit, &pen, of, why).await?;
    unit.commit().await?;
    let (rotation, kind) = (advance.rotation.id, advance.rotation.kind);
    tracing::error!(%rotation, %kind, why, "rotation failed");
    Ok(())
}

/// Puts the rotation on hold.
pub async fn pause(advance: &Advance<'_>, cause: Cause, why: &str) -> Result<(), OperationError> {
    let pen = advance.services.pen(&Worker::Rotator.principal()).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::pause_for(&unit, &pen, &advance.rotation, (cause, why)).await?;
    unit.commit().await?;
    tracing::warn!(rotation = %advance.rotation.id, why, "paused");
    Ok(())
}
