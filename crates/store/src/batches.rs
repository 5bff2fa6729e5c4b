//! Batches: planned, dispatched one for one that ends, done or given up.

use std::time::Duration;

use rekey_domain::{BatchState, KeyId, PartId, Range};
use rekey_messages::BatchReady;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, ExprTrait, Query},
};
use uuid::Uuid;

pub use crate::entities::batch::Model as Batch;
use crate::{
    StoreError, Unit,
    entities::{batch, rotation},
    keyrings,
    rotations::{self, Rotation},
    stored::Text,
};

/// How long a dispatched batch may go without a sign of life before its message is sent again.
pub const RESEND_AFTER: Duration = Duration::from_secs(30);

/// What a batch did, in values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that were written.
    pub rows: u64,
    /// Values written under the target key.
    pub moved: u64,
    /// Rows that the application changed between our read and our write.
    pub conflicts: u64,
    /// Values left as they were, with a reason.
    pub quarantined: u64,
}

/// The batch of this id.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Batch, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("batch {id}"),
        known: Vec::new(),
    };
    batch::Entity::find_by_id(id)
        .one(db)
        .await?
        .ok_or_else(unknown)
}

/// The batches of a rotation's current pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Vec<Batch>, StoreError> {
    let pass = batch::Column::Pass.eq(rotation.pass);
    Ok(batch::Entity::find()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(pass)
        .all(db)
        .await?)
}

/// What all batches of a rotation did, over all passes; of quarantine, what the latest pass left
/// there, as each pass meets the same values again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn tally(db: &impl ConnectionTrait, rotation: &Rotation) -> Result<Tally, StoreError> {
    let batches = batch::Entity::find()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .all(db)
        .await?;
    let latest = batches.iter().filter(|batch| batch.pass == rotation.pass);
    Ok(Tally {
        rows: batches
            .iter()
            .filter_map(|batch| batch.rows_moved)
            .map(i64::unsigned_abs)
            .sum(),
        moved: batches.iter().map(|batch| batch.moved.unsigned_abs()).sum(),
        conflicts: batches
            .iter()
            .map(|batch| batch.conflicts.unsigned_abs())
            .sum(),
        quarantined: latest.map(|batch| batch.quarantined.unsigned_abs()).sum(),
    })
}

impl Batch {
    /// The part of the table that it is a range of.
    pub fn part(&self) -> PartId {
        PartId {
            name: self.part.clone(),
            form: self.part_form.clone(),
        }
    }

    /// Its range.
    pub fn range(&self) -> Range {
        Range {
            first: self.first,
            last: self.last,
        }
    }
}

/// Whether ranges of a part, in the form it has, were planned in a rotation's current pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn covers(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    table: Uuid,
    part: &PartId,
) -> Result<bool, StoreError> {
    let found = batch::Entity::find()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(batch::Column::TableId.eq(table))
        .filter(batch::Column::Part.eq(&part.name))
        .filter(batch::Column::PartForm.eq(&part.form))
        .limit(1)
        .one(db)
        .await?;
    Ok(found.is_some())
}

/// How many batches of a rotation's current pass are in `state`.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn count(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    state: BatchState,
) -> Result<u64, StoreError> {
    let of_state = batch::Column::State.eq(state.to_string());
    let of_pass = batch::Column::Pass.eq(rotation.pass);
    let of_rotation = batch::Column::RotationId.eq(rotation.id);
    Ok(batch::Entity::find()
        .filter(of_rotation)
        .filter(of_pass)
        .filter(of_state)
        .count(db)
        .await?)
}

/// Dispatched batches of live rotations that gave no sign of life until `now`, or whose date lies further ahead than
/// any we set (database time, milliseconds).
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn to_resend(
    db: &impl ConnectionTrait,
    now: i64,
    furthest: i64,
) -> Result<Vec<Batch>, StoreError> {
    let dispatched = batch::Column::State.eq(BatchState::Dispatched.to_string());
    let due = batch::Column::ResendAt
        .lte(now)
        .or(batch::Column::ResendAt.gt(furthest));
    let live = Query::select()
        .column(rotation::Column::Id)
        .from(rotation::Entity)
        .and_where(rotation::Column::State.is_in(rotations::LIVE.map(|state| state.to_string())))
        .to_owned();
    Ok(batch::Entity::find()
        .filter(dispatched)
        .filter(due)
        .filter(batch::Column::RotationId.in_subquery(live))
        .limit(100)
        .all(db)
        .await?)
}

/// Plans one range.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn plan(
    unit: &Unit,
    rotation: &Rotation,
    table: Uuid,
    part: &PartId,
    range: Range,
) -> Result<(), StoreError> {
    let row = batch::ActiveModel {
        id: Set(Uuid::now_v7()),
        rotation_id: Set(rotation.id),
        table_id: Set(table),
        pass: Set(rotation.pass),
        part: Set(part.name.clone()),
        part_form: Set(part.form.clone()),
        first: Set(range.first),
        last: Set(range.last),
        state: Set(Text(BatchState::Planned)),
        resend_at: Set(0),
        moved: Set(0),
        conflicts: Set(0),
        quarantined: Set(0),
        failure: Set(None),
        ended_at: Set(None),
        rows_moved: Set(None),
        waiting_because: Set(None),
    };
    batch::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// Dispatches planned batches until `concurrency` are in flight. Gives why the rotation is on hold from
/// now on, where it was asked to pause; whoever dispatches writes that into the audit log.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn dispatch(
    unit: &Unit,
    rotation: &Rotation,
    concurrency: u32,
) -> Result<Option<String>, StoreError> {
    let rotation = &rotations::lock(unit, rotation.id).await?;
    if rotation.paused || !rotation.state.0.is_live() {
        return Ok(None);
    }
    let concurrency = match may_be_in_flight(unit, rotation, concurrency).await? {
        Ok(concurrency) => concurrency,
        Err(why) => return Ok(Some(why)),
    };
    let in_flight = count(unit.db(), rotation, BatchState::Dispatched).await?;
    let ready = batch::Entity::find()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(batch::Column::State.eq(BatchState::Planned.to_string()))
        .order_by_asc(batch::Column::Id)
        .limit(u64::from(concurrency).saturating_sub(in_flight))
        .all(unit.db())
        .await?;
    for batch in ready {
        change_state(
            unit,
            &batch,
            BatchState::Dispatched,
            batch::ActiveModel::default(),
        )
        .await?;
        send(unit, rotation, &batch).await?;
    }
    Ok(None)
}

/// How many batches may be in flight. Where it is time for a person to look, the rotation is on hold
/// from now on, and this is why.
async fn may_be_in_flight(
    unit: &Unit,
    rotation: &Rotation,
    concurrency: u32,
) -> Result<Result<u32, String>, StoreError> {
    let canary = rotation.canary();
    if canary.pause_after.is_none() {
        return Ok(Ok(concurrency));
    }
    let keyring = keyrings::by_id(unit.db(), rotation.keyring_id).await?;
    let moved = rows_moved(unit.db(), rotation).await?;
    let batch_rows = canary.batch_rows(keyring.policy.0.batch_rows);
    Ok(match canary.in_flight(moved, batch_rows, concurrency) {
        Some(most) => Ok(most),
        None => Err(rotations::pause_after(unit, rotation, moved).await?),
    })
}

/// Rows that a rotation moved, over all passes.
async fn rows_moved(db: &impl ConnectionTrait, rotation: &Rotation) -> Result<u64, StoreError> {
    let sum = Expr::col(batch::Column::RowsMoved).sum().cast_as("bigint");
    let moved: Option<Option<i64>> = batch::Entity::find()
        .select_only()
        .column_as(sum, "rows_moved")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .into_tuple()
        .one(db)
        .await?;
    Ok(moved.flatten().unwrap_or_default().unsigned_abs())
}

/// What the dispatched batches of a rotation wait for, each once.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waiting(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Vec<String>, StoreError> {
    let dispatched = batch::Column::State.eq(BatchState::Dispatched.to_string());
    Ok(batch::Entity::find()
        .select_only()
        .column(batch::Column::WaitingBecause)
        .distinct()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(dispatched)
        .filter(batch::Column::WaitingBecause.is_not_null())
        .order_by_asc(batch::Column::WaitingBecause)
        .into_tuple()
        .all(db)
        .await?)
}

/// Says why a dispatched batch waits, and that it is looked at again after `lasts`; None: it goes on.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_waiting(
    unit: &Unit,
    batch: &Batch,
    because: Option<&str>,
    lasts: Duration,
) -> Result<(), StoreError> {
    let resend_at = unit.database_time_in(lasts + RESEND_AFTER);
    batch::Entity::update_many()
        .col_expr(
            batch::Column::WaitingBecause,
            Expr::value(because.map(str::to_owned)),
        )
        .col_expr(batch::Column::ResendAt, Expr::value(resend_at))
        .filter(batch::Column::Id.eq(batch.id))
        .filter(batch::Column::State.eq(BatchState::Dispatched.to_string()))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Sends a dispatched batch's message, again if need be.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn send(unit: &Unit, rotation: &Rotation, batch: &Batch) -> Result<(), StoreError> {
    let Some(target) = rotation.target_key_id else {
        return Ok(());
    };
    give_sign_of_life(unit, batch.id, RESEND_AFTER).await?;
    let message = BatchReady {
        batch: batch.id,
        rotation: rotation.id,
        generation: rotation.generation.unsigned_abs(),
        target: KeyId::new(u32::try_from(target).expect("the column holds only key ids")),
        urgent: rotation.urgent,
    };
    unit.send(&message).await
}

/// Puts off sending the batch's message again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn give_sign_of_life(
    unit: &Unit,
    batch: Uuid,
    lasts: Duration,
) -> Result<(), StoreError> {
    batch::Entity::update_many()
        .col_expr(
            batch::Column::ResendAt,
            Expr::value(unit.database_time_in(lasts)),
        )
        .filter(batch::Column::Id.eq(batch))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Has the messages of all dispatched batches sent again at once, as what came of them is not known.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resend_now(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    batch::Entity::update_many()
        .col_expr(batch::Column::ResendAt, Expr::value(0_i64))
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::State.eq(BatchState::Dispatched.to_string()))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Ends a batch well, and holds its rotation: whoever counts afterwards counts this one too.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn finish(unit: &Unit, batch: &Batch, tally: Tally) -> Result<(), StoreError> {
    rotations::lock(unit, batch.rotation_id).await?;
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let changes = batch::ActiveModel {
        rows_moved: Set(Some(
            batch.rows_moved.unwrap_or_default() + signed(tally.rows),
        )),
        moved: Set(batch.moved + signed(tally.moved)),
        conflicts: Set(batch.conflicts + signed(tally.conflicts)),
        quarantined: Set(signed(tally.quarantined)),
        ended_at: Set(Some(unit.now())),
        ..Default::default()
    };
    change_state(unit, batch, BatchState::Done, changes).await
}

/// Ends a batch whose part is not what it was: it proved nothing, and the part is planned again.
/// What it moved before it found that out is moved all the same.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn void(unit: &Unit, batch: &Batch, tally: Tally) -> Result<(), StoreError> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let changes = batch::ActiveModel {
        rows_moved: Set(Some(
            batch.rows_moved.unwrap_or_default() + signed(tally.rows),
        )),
        moved: Set(batch.moved + signed(tally.moved)),
        conflicts: Set(batch.conflicts + signed(tally.conflicts)),
        ended_at: Set(Some(unit.now())),
        ..Default::default()
    };
    change_state(unit, batch, BatchState::Void, changes).await
}

/// Gives a batch up, and holds its rotation; the others go on.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn fail(unit: &Unit, batch: &Batch, why: &str) -> Result<(), StoreError> {
    rotations::lock(unit, batch.rotation_id).await?;
    let changes = batch::ActiveModel {
        failure: Set(Some(why.to_owned())),
        ended_at: Set(Some(unit.now())),
        ..Default::default()
    };
    change_state(unit, batch, BatchState::Failed, changes).await
}

/// Plans the failed batches of the current pass again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn replan_failed(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    for batch in of_pass(unit.db(), rotation).await? {
        if batch.state.0 == BatchState::Failed {
            let changes = batch::ActiveModel {
                failure: Set(None),
                ..Default::default()
            };
            change_state(unit, &batch, BatchState::Planned, changes).await?;
        }
    }
    Ok(())
}

async fn change_state(
    unit: &Unit,
    batch: &Batch,
    next: BatchState,
    mut changes: batch::ActiveModel,
) -> Result<(), StoreError> {
    if !batch.state.0.may_become(next) {
        let state = batch.state.0;
        return Err(StoreError::Refused(format!(
            "a batch that is {state} cannot become {next}"
        )));
    }
    changes.state = Set(Text(next));
    let changed = batch::Entity::update_many()
        .set(changes)
        .filter(batch::Column::Id.eq(batch.id))
        .filter(batch::Column::State.eq(batch.state.clone()))
        .exec(unit.db())
        .await?;
    if changed.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Stale {
            what: format!("batch {}", batch.id),
        })
    }
}

#[cfg(test)]
mod tests {
    use rekey_domain::{PartId, Principal, RotationReason};
    use tokio::sync::Barrier;

    use super::*;
    use crate::{
        Store,
        test_store::{Kind, TestStore, now},
    };

    async fn planned(store: &TestStore, batches: i64) -> Rotation {
        let keyring = store.keyring("phi").await.id;
        let unit = store.unit().await;
        let ana = Principal::os("ana", "clinic");
        let started = rotations::start(&unit, keyring, RotationReason::Schedule, &ana).await;
        let rotation = started.unwrap();
        let part = PartId {
            name: "patients".to_owned(),
            form: String::new(),
        };
        for first in 0..batches {
            let range = Range { first, last: first };
            let planned = plan(&unit, &rotation, Uuid::now_v7(), &part, range).await;
            planned.unwrap();
        }
        unit.commit().await.unwrap();
        rotation
    }

    async fn dispatch_on(store: &Store, rotation: &Rotation, concurrency: u32) {
        let unit = store.begin(now()).await.unwrap();
        dispatch(&unit, rotation, concurrency).await.unwrap();
        unit.commit().await.unwrap();
    }

    /// Ends a batch as the re-encryptor does; whether it saw itself as the last. Waits a moment for
    /// the other at each step, where nothing keeps the two from being side by side.
    async fn finish_on(store: &Store, rotation: &Rotation, batch: &Batch, other: &Barrier) -> bool {
        let meet = async || tokio::time::timeout(Duration::from_millis(300), other.wait()).await;
        let unit = store.begin(now()).await.unwrap();
        finish(&unit, batch, Tally::default()).await.unwrap();
        let _ = meet().await;
        let open = count(unit.db(), rotation, BatchState::Dispatched).await;
        let _ = meet().await;
        unit.commit().await.unwrap();
        open.unwrap() == 0
    }

    #[tokio::test]
    async fn units_that_dispatch_at_once_stay_within_the_concurrency() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let rotation = planned(&store, 10).await;
            let here = dispatch_on(&store, &rotation, 3);
            tokio::join!(here, dispatch_on(&elsewhere, &rotation, 3));
            let in_flight = count(store.db(), &rotation, BatchState::Dispatched);
            assert_eq!(in_flight.await.unwrap(), 3);
        }
    }

    #[tokio::test]
    async fn what_a_cancelled_rotation_had_in_flight_is_not_sent_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let rotation = planned(&store, 3).await;
            dispatch_on(&store, &rotation, 2).await;
            let unit = store.unit().await;
            resend_now(&unit, &rotation).await.unwrap();
            let in_flight = to_resend(unit.db(), 1, i64::MAX).await.unwrap();
            assert_eq!(in_flight.len(), 2);
            rotations::cancel(&unit, &rotation, "a test").await.unwrap();
            let due = to_resend(unit.db(), 1, i64::MAX).await.unwrap();
            assert_eq!(due, []);
            finish(&unit, &in_flight[0], Tally::default())
                .await
                .unwrap();
            dispatch(&unit, &rotation, 5).await.unwrap();
            let planned = count(unit.db(), &rotation, BatchState::Planned);
            assert_eq!(planned.await.unwrap(), 1, "nothing more is dispatched");
        }
    }

    #[tokio::test]
    async fn of_the_last_two_batches_ended_at_once_one_knows_that_it_was_the_last() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let rotation = planned(&store, 2).await;
            dispatch_on(&store, &rotation, 2).await;
            let batches = of_pass(store.db(), &rotation).await.unwrap();
            let other = Barrier::new(2);
            let here = finish_on(&store, &rotation, &batches[0], &other);
            let there = finish_on(&elsewhere, &rotation, &batches[1], &other);
            let (here, there) = tokio::join!(here, there);
            assert!(here != there, "{here} {there}");
        }
    }
}

#[cfg(test)]
#[path = "batches_parts_tests.rs"]
mod parts_tests;
