//! One tick: what is due by now, each thing in one unit that depends on leading.

use std::time::Duration;

use chrono::TimeDelta;
use rekey_domain::{
    KeyState, Principal, Purpose, RotationKind, RotationReason, RotationState, Schedule,
};
use rekey_messages::{
    CertificateWanted, Event, Message, RotationDue, RotationRequested, StandbyWanted,
    StragglersWanted,
};
use rekey_operations::Services;
use rekey_runtime::crash;
use rekey_store::{
    StoreError, Unit, batches, certificates, dead_letters, inbox,
    keyrings::{self, Keyring},
    keys,
    leases::Lease,
    rotations::{self, LOOK_AGAIN},
    schedules, stragglers,
};

use crate::prune;

/// No date of ours lies further ahead; one that does was set before the clock was stepped back.
const FURTHEST: i64 = 11 * 60 * 1_000;
/// A look for stragglers that failed is tried again after this.
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(60 * 60);
/// How long an effect is remembered, well beyond any retry.
const INBOX_KEPT: i64 = 7 * 24 * 60 * 60 * 1_000;
/// A trigger that still holds asks again after this.
const ASK_AGAIN: TimeDelta = TimeDelta::hours(1);
/// A keyring that is without a standby for so long is told again to have one made.
const STANDBY_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// Fires everything that is due.
pub async fn tick(services: &Services, lease: &Lease) -> Result<(), StoreError> {
    for keyring in keyrings::all(services.store.db()).await? {
        let unit = services.store.begin().await?;
        crate::leading::still_leading(&unit, lease).await?;
        crash::point("scheduler.due");
        fire_schedule(&unit, &keyring).await?;
        fire_triggers(&unit, &keyring).await?;
        want_standby(&unit, &keyring).await?;
        want_look(&unit, &keyring).await?;
        unit.commit().await?;
        crash::point("scheduler.fired");
    }
    let unit = services.store.begin().await?;
    crate::leading::still_leading(&unit, lease).await?;
    send_again(&unit).await?;
    let resolved = dead_letters::resolve_settled(&unit).await?;
    if resolved > 0 {
        tracing::info!(resolved, "dead letters whose rotations went on or ended");
    }
    let prunes = prune::is_due(&unit).await?;
    unit.commit().await?;
    if prunes {
        prune::step(services, lease).await?;
    }
    Ok(())
}

async fn fire_schedule(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let policy = &keyring.policy;
    let Some(line) = &policy.rotate else {
        return Ok(());
    };
    let schedule = Schedule::parse(line, &policy.time_zone)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let name = format!("rotate/{}", keyring.name);
    let settled = schedules::fired_up_to(unit, &name).await?;
    let Some(tick) = schedule.due(settled, unit.now()) else {
        return Ok(());
    };
    if schedules::settle(unit, &name, settled, tick).await? {
        tracing::info!(keyring = %keyring.name, %tick, "scheduled rotation");
        request(unit, keyring, RotationReason::Schedule).await?;
    }
    Ok(())
}

/// Expiry and usage: they hold until a rotation has answered them, so each asks again at times.
async fn fire_triggers(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let latest = rotations::latest(unit.db(), keyring.id).await?;
    // A sweep makes no switch, so it answers neither; a request supersedes it.
    let switches = latest.filter(|last| last.kind == RotationKind::Switch);
    let at_work =
        switches.is_some_and(|last| last.state.is_live() || last.state == RotationState::Failed);
    let keys = keys::of_keyring(unit.db(), keyring.id).await?;
    let Some(primary) = keys.iter().find(|key| key.state == KeyState::Active) else {
        return Ok(());
    };
    let expired = primary.expires_at.is_some_and(|at| at <= unit.now());
    let used_up = primary.used_by_applications >= keyring.policy.max_encryptions;
    let reason = if expired {
        RotationReason::Expiry
    } else {
        RotationReason::Usage
    };
    if at_work || !(expired || used_up) {
        return Ok(());
    }
    let name = format!("{reason}/{}", primary.id);
    let asked = schedules::fired_up_to(unit, &name).await?;
    let first_time = asked == unit.now();
    let again = unit.now() - asked >= ASK_AGAIN
        && schedules::settle(unit, &name, asked, unit.now()).await?;
    if first_time || again {
        tracing::info!(keyring = %keyring.name, %reason, "rotation by trigger");
        request(unit, keyring, reason).await?;
    }
    Ok(())
}

/// A standby that was ordered and did not come is ordered again: no rotation waits for it.
async fn want_standby(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let keys = keys::of_keyring(unit.db(), keyring.id).await?;
    let of = |state| keys.iter().find(|key| key.state == state);
    let (Some(primary), None) = (of(KeyState::Active), of(KeyState::Pending)) else {
        return Ok(());
    };
    let name = format!("standby/{}", primary.id);
    let asked = schedules::fired_up_to(unit, &name).await?;
    let late = (unit.now() - asked).abs() >= STANDBY_WITHIN;
    if late && schedules::settle(unit, &name, asked, unit.now()).await? {
        let keyring = keyring.name.clone();
        unit.send(&StandbyWanted { keyring }).await?;
    }
    Ok(())
}

/// A look at the values of a keyring that protects some. One that failed is tried again soon.
async fn want_look(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let Some(every) = keyring.policy.straggler_look else {
        return Ok(());
    };
    if keyring.purpose != Purpose::Phi {
        return Ok(());
    }
    let name = format!("stragglers/{}", keyring.name);
    let asked = schedules::fired_up_to(unit, &name).await?;
    let ago = (unit.now() - asked).abs().to_std().unwrap_or_default();
    let is_due = ago >= every || ago >= LOOK_AFTER_FAILURE && has_failed(unit, keyring).await?;
    if is_due && schedules::settle(unit, &name, asked, unit.now()).await? {
        let keyring = keyring.name.clone();
        unit.send(&StragglersWanted { keyring }).await?;
    }
    Ok(())
}

/// Whether nobody could look the last time.
async fn has_failed(unit: &Unit, keyring: &Keyring) -> Result<bool, StoreError> {
    let looks = stragglers::all(unit.db()).await?;
    let of_keyring = looks.iter().find(|look| look.keyring_id == keyring.id);
    Ok(of_keyring.is_some_and(|look| look.failure.is_some()))
}

async fn request(unit: &Unit, keyring: &Keyring, reason: RotationReason) -> Result<(), StoreError> {
    let request = RotationRequested::of_all(keyring.name.clone(), reason);
    let principal = Principal::schedule(keyring.name.as_str());
    let event = Event::of(&request, "/rekey", unit.now()).asked_by(&principal);
    unit.send_event(&event, RotationRequested::ROUTE, Duration::ZERO)
        .await
}

/// Messages that were lost after they were sent are sent again: the row is the truth (rule 2).
async fn send_again(unit: &Unit) -> Result<(), StoreError> {
    let now = unit.database_time_in(Duration::ZERO);
    for rotation in rotations::to_wake(unit.db(), now, now + FURTHEST).await? {
        unit.send(&RotationDue {
            rotation: rotation.id,
        })
        .await?;
        rotations::look_again(unit, &rotation, LOOK_AGAIN).await?;
    }
    for batch in batches::to_resend(unit.db(), now, now + FURTHEST).await? {
        let rotation = rotations::by_id(unit.db(), batch.rotation_id).await?;
        if rotation.state.is_live() && rotation.pass == batch.pass {
            batches::send(unit, &rotation, &batch).await?;
        }
    }
    for rotation in certificates::to_sign(unit.db(), now, now + FURTHEST).await? {
        unit.send(&CertificateWanted {
            rotation: rotation.id,
        })
        .await?;
        certificates::put_off(unit, &rotation, unit.database_time_in(LOOK_AGAIN)).await?;
    }
    inbox::prune(unit, now - INBOX_KEPT).await?;
    Ok(())
}
