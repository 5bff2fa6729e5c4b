//! Which batches are in flight: so many as the keyring allows, and fewer before a canary's pause.

use rekey_domain::BatchState;
use rekey_messages::BatchReady;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{Batch, RESEND_AFTER, change_state, give_sign_of_life, of_pass::of_pass};
use crate::{
    StoreError, Unit,
    keys::keyrings,
    rotations::{
        self, Locked, Rotation,
        entities::batch,
        progress::{self, Unfinished},
    },
};

/// What came of dispatching.
#[derive(Debug)]
pub struct Dispatched {
    /// What is left of the pass.
    pub left: Unfinished,
    /// Why the rotation is on hold from now on, where it was asked to pause; whoever dispatches writes
    /// that into the audit log.
    pub paused: Option<String>,
}

/// Dispatches planned batches until `concurrency` are in flight.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn dispatch(
    unit: &Unit,
    rotation: &Locked,
    concurrency: u32,
) -> Result<Dispatched, StoreError> {
    let mut left = progress::unfinished(unit.db(), rotation).await?;
    let paused = None;
    if rotation.paused || !rotation.state.is_live() {
        return Ok(Dispatched { left, paused });
    }
    let concurrency = match may_be_in_flight(unit, rotation, concurrency).await? {
        InFlight::AtMost(most) => most,
        InFlight::Paused(why) => {
            return Ok(Dispatched {
                left,
                paused: Some(why),
            });
        }
    };
    let room = u64::from(concurrency).saturating_sub(left.dispatched);
    for batch in next_planned(unit, rotation, room.min(left.planned)).await? {
        let changes = batch::ActiveModel {
            resend_at: Set(unit.database_time_in(RESEND_AFTER)),
            ..Default::default()
        };
        change_state(unit, &batch, BatchState::Dispatched, changes).await?;
        ready(unit, rotation, &batch).await?;
        left.planned -= 1;
        left.dispatched += 1;
    }
    Ok(Dispatched { left, paused })
}

async fn next_planned(
    unit: &Unit,
    rotation: &Rotation,
    most: u64,
) -> Result<Vec<Batch>, StoreError> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let planned = batch::Entity::find().filter(of_pass(rotation, BatchState::Planned));
    Ok(planned
        .filter(batch::Column::LedBy.is_null())
        .order_by_asc(batch::Column::Id)
        .limit(most)
        .all(unit.db())
        .await?)
}

/// How many batches may be in flight.
enum InFlight {
    AtMost(u32),
    /// None, and why.
    Paused(String),
}

/// How many batches may be in flight. When a canary is done, puts the rotation on hold and says why.
async fn may_be_in_flight(
    unit: &Unit,
    rotation: &Locked,
    concurrency: u32,
) -> Result<InFlight, StoreError> {
    let canary = rotation.canary();
    if canary.pause_after.is_none() {
        return Ok(InFlight::AtMost(concurrency));
    }
    let keyring = keyrings::by_id(unit.db(), rotation.keyring_id).await?;
    let moved = rows_moved(unit.db(), rotation).await?;
    let batch_rows = canary.batch_rows(keyring.policy.batch_rows);
    Ok(match canary.in_flight(moved, batch_rows, concurrency) {
        Some(most) => InFlight::AtMost(most),
        None => InFlight::Paused(rotations::pause_after(unit, rotation, moved).await?),
    })
}

/// Rows that a rotation moved, over all passes.
async fn rows_moved(db: &impl ConnectionTrait, rotation: &Rotation) -> Result<u64, StoreError> {
    let moved: Option<Option<i64>> = batch::Entity::find()
        .select_only()
        .column_as(progress::sum(batch::Column::RowsMoved), "rows_moved")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .into_tuple()
        .one(db)
        .await?;
    Ok(moved.flatten().unwrap_or_default().unsigned_abs())
}

/// Sends a dispatched batch's message again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn send(unit: &Unit, rotation: &Rotation, batch: &Batch) -> Result<(), StoreError> {
    give_sign_of_life(unit, batch.id, RESEND_AFTER).await?;
    ready(unit, rotation, batch).await
}

async fn ready(unit: &Unit, rotation: &Rotation, batch: &Batch) -> Result<(), StoreError> {
    let Some(target) = rotation.target_key_id else {
        return Ok(());
    };
    let message = BatchReady {
        batch: batch.id,
        rotation: rotation.id,
        generation: rotation.generation,
        target,
        urgent: rotation.urgent,
    };
    unit.send(&message).await
}
