//! Rotations: started, moved on by compare-and-swap, ended.

pub mod batches;
pub mod census;
pub mod certificates;
pub mod emergency;
pub(crate) mod entities;
mod figures;
pub mod met;
pub mod progress;
pub mod prune;
pub mod quarantine;
pub mod reopened;
mod row;
pub mod speed;
pub mod stragglers;
pub mod sweeps;
mod transitions;

use std::{num::NonZeroU64, ops::Deref};

use rekey_domain::{Canary, Principal, RotationKind, RotationReason, RotationState};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockType, OnConflict},
};
use uuid::Uuid;

pub(crate) use crate::rotations::entities::rotation::ActiveModel as Changes;
pub use crate::rotations::row::Rotation;
pub use crate::rotations::transitions::{
    Cause, LOOK_AGAIN, PlanPosition, begin_grace, begin_verifying, complete, distribute, fail,
    keys_changed, look_again, note_fences, note_plan, note_waiting, order_standby, pause_for,
    plan_anew, restart, retry, supersede, sweep_again, switch, tell, wait_until,
};
use crate::{
    Store, StoreError, Unit,
    database::stored::{Json, Text},
    incidents,
    rotations::entities::{rotation, rotation_request},
};

/// Rows as what they say.
pub(crate) fn parsed(rows: Vec<rotation::Model>) -> Vec<Rotation> {
    rows.into_iter().map(Rotation::from).collect()
}

/// The states in which a rotation takes steps by itself.
pub(crate) const LIVE: [RotationState; 5] = [
    RotationState::Requested,
    RotationState::Distributing,
    RotationState::ReEncrypting,
    RotationState::Grace,
    RotationState::Verifying,
];

/// The rotation of this id.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Rotation, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("rotation {id}"),
        known: Vec::new(),
    };
    let found = rotation::Entity::find_by_id(id).one(db).await?;
    found.map(Rotation::from).ok_or_else(unknown)
}

/// A rotation that is held until the unit ends: units that change or count its batches do so one
/// after another.
#[derive(Debug, Clone)]
pub struct Locked(Rotation);

impl Deref for Locked {
    type Target = Rotation;

    fn deref(&self) -> &Rotation {
        &self.0
    }
}

impl From<Locked> for Rotation {
    fn from(locked: Locked) -> Self {
        locked.0
    }
}

/// The rotation of this id, held from now on. Comes before any of its batches is changed.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn lock(unit: &Unit, id: Uuid) -> Result<Locked, StoreError> {
    let found = rotation::Entity::find_by_id(id)
        .lock(LockType::Update)
        .one(unit.db())
        .await?;
    match found {
        Some(found) => Ok(Locked(found.into())),
        None => by_id(unit.db(), id).await.map(Locked),
    }
}

/// The keyring's rotations, latest first. A live one comes first, even if a step of the database's clock gave it an
/// earlier id.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_keyring(
    db: &impl ConnectionTrait,
    keyring: Uuid,
) -> Result<Vec<Rotation>, StoreError> {
    let rotations = rotation::Entity::find().filter(rotation::Column::KeyringId.eq(keyring));
    let rotations = rotations.order_by_desc(rotation::Column::Id);
    let mut rotations = parsed(rotations.all(db).await?);
    rotations.sort_by_key(|rotation| !rotation.state.is_live());
    Ok(rotations)
}

/// The keyring's latest rotation, as [`of_keyring`] tells it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn latest(
    db: &impl ConnectionTrait,
    keyring: Uuid,
) -> Result<Option<Rotation>, StoreError> {
    Ok(of_keyring(db, keyring).await?.into_iter().next())
}

/// Every rotation, latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Rotation>, StoreError> {
    let rotations = rotation::Entity::find()
        .order_by_desc(rotation::Column::Id)
        .all(db)
        .await?;
    Ok(parsed(rotations))
}

/// Rotations that are not over, latest first: live ones, and those that failed.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn not_over(db: &impl ConnectionTrait) -> Result<Vec<Rotation>, StoreError> {
    let states = LIVE.into_iter().chain([RotationState::Failed]);
    let states = states.map(|state| state.to_string());
    let rotations = rotation::Entity::find()
        .filter(rotation::Column::State.is_in(states))
        .order_by_desc(rotation::Column::Id)
        .all(db)
        .await?;
    Ok(parsed(rotations))
}

/// Live rotations whose wake-up was due before `now` (database time, milliseconds), or lies further
/// ahead than any we set, as after a step of the clock.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn to_wake(
    db: &impl ConnectionTrait,
    now: i64,
    furthest: i64,
) -> Result<Vec<Rotation>, StoreError> {
    let live = rotation::Column::State.is_in(LIVE.map(|state| state.to_string()));
    let due = rotation::Column::ResendAt
        .lte(now)
        .or(rotation::Column::ResendAt.gt(furthest));
    let rotations = rotation::Entity::find()
        .filter(live)
        .filter(due)
        .all(db)
        .await?;
    Ok(parsed(rotations))
}

/// Starts a rotation in `REQUESTED`.
///
/// # Errors
/// [`StoreError::Stale`] when the keyring has a live rotation.
pub async fn start(
    unit: &Unit,
    keyring: Uuid,
    reason: RotationReason,
    principal: &Principal,
) -> Result<Rotation, StoreError> {
    insert(unit, new(unit, keyring, reason, principal)).await
}

/// The row of one that starts with a switch ahead of it.
pub(crate) fn new(
    unit: &Unit,
    keyring: Uuid,
    reason: RotationReason,
    principal: &Principal,
) -> Changes {
    let kind = RotationKind::Switch;
    Changes {
        id: Set(unit.new_id()),
        keyring_id: Set(keyring),
        kind: Set(Text(kind)),
        state: Set(Text(kind.starts_in())),
        reason: Set(Json(reason)),
        principal: Set(Text(principal.clone())),
        paused: Set(false),
        resumptions: Set(0),
        urgent: Set(false),
        generation: Set(1),
        pass: Set(0),
        planned: Set(false),
        plan_table: Set(0),
        resend_at: Set(0),
        requested_at: Set(unit.now()),
        ..Default::default()
    }
}

/// Stores a rotation that starts. One of all columns moves what is left under compromised keys too, so it answers their
/// incidents from now on.
pub(crate) async fn insert(unit: &Unit, row: Changes) -> Result<Rotation, StoreError> {
    let taken = |error| StoreError::stale_if_taken(error, "the keyring's live rotation");
    let started: Rotation = row.insert(unit.db()).await.map_err(taken)?.into();
    if started.sweep_columns.is_none() {
        incidents::take_up(unit, started.keyring_id, started.id).await?;
    }
    Ok(started)
}

/// Makes a rotation pause after so much, or go on to its end.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn set_canary(
    unit: &Unit,
    rotation: &Rotation,
    canary: &Canary,
) -> Result<(), StoreError> {
    let rows = canary.pause_after.map(NonZeroU64::get);
    let changes = Changes {
        pause_after: Set(rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX))),
        only_column: Set(canary.only.clone().map(Text)),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Notes which rotation a request led to: one it started, or one it joined.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_request(unit: &Unit, event: &str, rotation: Uuid) -> Result<(), StoreError> {
    let row = rotation_request::ActiveModel {
        event_id: Set(event.to_owned()),
        rotation_id: Set(rotation),
    };
    let again = OnConflict::column(rotation_request::Column::EventId)
        .update_column(rotation_request::Column::RotationId)
        .to_owned();
    rotation_request::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// The rotation that the request with this event id led to, once it was taken up.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_request(
    db: &impl ConnectionTrait,
    event: &str,
) -> Result<Option<Uuid>, StoreError> {
    let found = rotation_request::Entity::find_by_id(event).one(db).await?;
    Ok(found.map(|request| request.rotation_id))
}

/// Moves a rotation on, from the state it was read in; `changes` may set other columns too.
///
/// # Errors
/// [`StoreError::Refused`] where the machine has no such arrow, [`StoreError::Stale`] where the
/// rotation moved meanwhile.
pub(crate) async fn change_state(
    unit: &Unit,
    rotation: &Rotation,
    next: RotationState,
    mut changes: Changes,
) -> Result<(), StoreError> {
    let state = rotation
        .state
        .become_state(next)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    changes.state = Set(Text(state));
    if state.is_live() && rotation.failure.is_some() {
        changes.failure = Set(None);
    }
    if !state.is_live() && state != RotationState::Failed {
        changes.ended_at = Set(Some(unit.now()));
    }
    update(unit, rotation, changes).await
}

/// Puts a rotation on hold.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn pause(unit: &Unit, rotation: &Rotation, why: &str) -> Result<(), StoreError> {
    update(unit, rotation, on_hold(why)).await
}

/// What puts a rotation on hold.
fn on_hold(why: &str) -> Changes {
    Changes {
        paused: Set(true),
        paused_because: Set(Some(why.to_owned())),
        ..Default::default()
    }
}

/// Puts a rotation on hold because of an error in its work, unless it was resumed since `seen` was read: then the cause
/// may be mended, and only a new attempt can tell. Returns whether the rotation now rests, on hold or over.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn pause_unless_resumed(
    unit: &Unit,
    seen: &Rotation,
    why: &str,
) -> Result<bool, StoreError> {
    let rotation = lock(unit, seen.id).await?;
    if rotation.paused || !rotation.state.is_live() {
        return Ok(true);
    }
    if rotation.resumptions != seen.resumptions {
        return Ok(false);
    }
    pause(unit, &rotation, why).await?;
    Ok(true)
}

/// Puts a rotation on hold because so much of a column is in quarantine. Only once, as whoever resumes it knows.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn pause_as_much_stands_out(
    unit: &Unit,
    rotation: &Rotation,
    why: &str,
) -> Result<(), StoreError> {
    let changes = Changes {
        stood_out: Set(Some(true)),
        ..on_hold(why)
    };
    update(unit, rotation, changes).await
}

/// Forgets what a rotation waited for: a step of it was done.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waits_no_more(store: &Store, id: Uuid) -> Result<(), StoreError> {
    let changes = Changes {
        waiting_because: Set(None),
        waiting_since: Set(None),
        ..Default::default()
    };
    let unit = store.begin().await?;
    rotation::Entity::update_many()
        .set(changes)
        .filter(rotation::Column::Id.eq(id))
        .exec(unit.db())
        .await?;
    unit.commit().await
}

/// Lets a rotation go on; one that was on hold for values under unknown keys leaves them as they are.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn resume(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = Changes {
        paused: Set(false),
        paused_because: Set(None),
        resumptions: Set(rotation.resumptions + 1),
        unknown_keys_accepted: match rotation.unknown_keys_accepted {
            Some(_) => Set(Some(true)),
            None => NotSet,
        },
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Has a rotation's batches overtake all others from now on.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn make_urgent(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = Changes {
        urgent: Set(true),
        ..Default::default()
    };
    update(unit, rotation, changes).await
}

/// Puts a rotation on hold as it was asked to, once about so many rows are moved; resumed, it goes on
/// to its end. Gives why.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn pause_after(
    unit: &Unit,
    rotation: &Rotation,
    moved: u64,
) -> Result<String, StoreError> {
    let asked = rotation.pause_after.unwrap_or_default();
    let why = format!(
        "{moved} rows are moved, and it was to pause after {asked}; resumed, it moves all the others"
    );
    let changes = Changes {
        paused: Set(true),
        paused_because: Set(Some(why.clone())),
        pause_after: Set(None),
        ..Default::default()
    };
    update(unit, rotation, changes).await?;
    Ok(why)
}

/// Ends a rotation where it is: what is in flight finds that out, and nothing is taken back.
///
/// # Errors
/// [`StoreError::Refused`] for one that is over, [`StoreError::Stale`] where it moved meanwhile.
pub async fn cancel(unit: &Unit, rotation: &Rotation, why: &str) -> Result<(), StoreError> {
    let changes = Changes {
        paused: Set(false),
        paused_because: Set(None),
        due_at: Set(None),
        cancelled_because: Set(Some(why.to_owned())),
        ..Default::default()
    };
    change_state(unit, rotation, RotationState::Cancelled, changes).await
}

/// Changes a rotation that stays in the state it was read in.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub(crate) async fn update(
    unit: &Unit,
    rotation: &Rotation,
    changes: Changes,
) -> Result<(), StoreError> {
    let changed = rotation::Entity::update_many()
        .set(changes)
        .filter(rotation::Column::Id.eq(rotation.id))
        .filter(rotation::Column::State.eq(Text(rotation.state)))
        .filter(rotation::Column::Generation.eq(i64::from(rotation.generation)))
        .filter(rotation::Column::Pass.eq(rotation.pass))
        // A caller that has not seen the report would still let the rotation wait.
        .filter(match rotation.incident_id {
            Some(incident) => rotation::Column::IncidentId.eq(incident),
            None => rotation::Column::IncidentId.is_null(),
        })
        .exec(unit.db())
        .await?;
    if changed.rows_affected == 1 {
        return Ok(());
    }
    Err(StoreError::Stale {
        what: format!("rotation {}", rotation.id),
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore, loser},
    };

    #[tokio::test]
    async fn of_two_rotations_started_at_once_one_lives_and_the_other_may_try_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await.id;
            let start = async |store: Store| {
                let unit = store.begin().await?;
                let ana = Principal::os("ana", "clinic");
                start(&unit, keyring, RotationReason::Schedule, &ana).await?;
                unit.commit().await
            };
            let started = tokio::join!(start(store.clone()), start(store.another().await));
            let late = loser(started);
            assert!(late.is_retryable(), "{late}");
            assert_eq!(all(store.db()).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn the_latest_is_told_by_the_stores_time_and_a_live_one_is_the_latest() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await.id;
            let unit = store.unit().await;
            let stamped = unit.new_id().get_timestamp().unwrap().to_unix();
            let seconds = u64::try_from(unit.now().timestamp()).unwrap();
            assert_eq!(stamped.0, seconds);
            // Made by a program from before, whose clock was a year ahead.
            let ana = Principal::os("ana", "clinic");
            let ahead = (unit.now() + TimeDelta::days(365)).timestamp_millis();
            let id = uuid::Builder::from_unix_timestamp_millis(ahead.unsigned_abs(), &[0; 10]);
            let old = Changes {
                id: Set(id.into_uuid()),
                ..new(&unit, keyring, RotationReason::Schedule, &ana)
            };
            let old = insert(&unit, old).await.unwrap();
            let over = RotationState::Cancelled;
            let nothing = Changes {
                ..Default::default()
            };
            change_state(&unit, &old, over, nothing).await.unwrap();
            let started = start(&unit, keyring, RotationReason::Schedule, &ana).await;
            let started = started.unwrap();
            let found = of_keyring(unit.db(), keyring).await.unwrap();
            assert_eq!((found.len(), found[0].id), (2, started.id));
        }
    }

    #[tokio::test]
    async fn what_failed_before_a_resume_does_not_put_the_rotation_on_hold_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await.id;
            let unit = store.begin().await.unwrap();
            let ana = Principal::os("ana", "clinic");
            let started = start(&unit, keyring, RotationReason::Schedule, &ana).await;
            let seen = started.unwrap();
            // Of two batches in flight, one meets the denial first.
            assert!(pause_unless_resumed(&unit, &seen, "denied").await.unwrap());
            let held = by_id(unit.db(), seen.id).await.unwrap();
            assert!(held.paused);
            resume(&unit, &held).await.unwrap();

            // The other batch met the denial before it was mended, but reports it only now.
            assert!(!pause_unless_resumed(&unit, &seen, "denied").await.unwrap());
            let resumed = by_id(unit.db(), seen.id).await.unwrap();
            assert!(!resumed.paused);

            // It is denied anew.
            assert!(
                pause_unless_resumed(&unit, &resumed, "denied")
                    .await
                    .unwrap()
            );
            assert!(by_id(unit.db(), seen.id).await.unwrap().paused);
            unit.commit().await.unwrap();
        }
    }
}
