//! Figures of the store for `/metrics`.

use std::collections::BTreeMap;

use rekey_messages::Queue;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait,
    QueryFilter, QuerySelect,
};

use crate::{
    StoreError, database_time,
    messaging::entities::outbox,
    rotations::{LIVE, entities::rotation},
    work::{entities::lease, leases::JOB_LEASE},
};

/// What is waiting, and since when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Messages in the outbox that wait for a worker.
    pub outbox: u64,
    /// How long the oldest message that is due has waited, in seconds.
    pub outbox_age: f64,
    /// By the first part of a lease's name: the longest time since one was renewed, in seconds.
    pub lease_ages: BTreeMap<String, f64>,
    /// How many rotations are in each state.
    pub rotations: BTreeMap<String, u64>,
    /// How many rotations are on hold.
    pub paused: u64,
}

#[derive(FromQueryResult)]
struct Counted {
    state: String,
    rotations: i64,
}

/// Reads the figures.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn read(db: &impl ConnectionTrait) -> Result<Gauges, StoreError> {
    let now = database_time(db).await?;
    let oldest: Option<Option<i64>> = outbox::Entity::find()
        .select_only()
        .column_as(outbox::Column::AvailableAt.min(), "oldest")
        .filter(outbox::Column::AvailableAt.lte(now))
        .filter(waits_for_a_worker())
        .into_tuple()
        .one(db)
        .await?;
    let mut gauges = Gauges {
        outbox: outbox::Entity::find()
            .filter(waits_for_a_worker())
            .count(db)
            .await?,
        paused: rotation::Entity::find()
            .filter(rotation::Column::Paused.eq(true))
            .filter(rotation::Column::State.is_in(LIVE.map(|state| state.to_string())))
            .count(db)
            .await?,
        outbox_age: oldest.flatten().map_or(0.0, |oldest| seconds(now - oldest)),
        ..Gauges::default()
    };
    for lease in lease::Entity::find().all(db).await? {
        let kind = lease.name.split('/').next().unwrap_or_default().to_owned();
        let age = seconds(now - (lease.until - JOB_LEASE.as_millis() as i64));
        let known = gauges.lease_ages.entry(kind).or_default();
        *known = known.max(age);
    }
    let counted = rotation::Entity::find()
        .select_only()
        .column(rotation::Column::State)
        .column_as(rotation::Column::Id.count(), "rotations")
        .group_by(rotation::Column::State);
    for row in counted.into_model::<Counted>().all(db).await? {
        gauges
            .rotations
            .insert(row.state, row.rotations.unsigned_abs());
    }
    Ok(gauges)
}

/// Without a broker, messages for every process stay in the outbox for a while, and no worker has to take them.
fn waits_for_a_worker() -> Condition {
    let shared = Queue::ALL.into_iter().filter(|queue| queue.is_shared());
    let shared = shared.map(|queue| queue.to_string());
    Condition::all().add(outbox::Column::Queue.is_in(shared))
}

fn seconds(millis: i64) -> f64 {
    // A lease that was just renewed lies a moment ahead.
    millis.max(0) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rekey_domain::{Principal, RotationReason, RotationState};
    use rekey_messages::RotationDue;
    use uuid::Uuid;

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore},
        rotations,
        work::leases,
    };

    #[tokio::test]
    async fn what_waits_is_counted_with_its_age() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            assert_eq!(read(store.db()).await.unwrap(), Gauges::default());
            let keyring = store.keyring("phi").await.id;
            let unit = store.unit().await;
            let (rotation, ana) = (Uuid::now_v7(), Principal::os("ana", "clinic"));
            unit.send(&RotationDue { rotation }).await.unwrap();
            let later = Duration::from_secs(600);
            unit.send_after(&RotationDue { rotation }, later)
                .await
                .unwrap();
            // As if it had been renewed ten seconds ago.
            let left = JOB_LEASE - Duration::from_secs(10);
            leases::acquire(&unit, "batch/1", "one", left)
                .await
                .unwrap();
            let started = rotations::start(&unit, keyring, RotationReason::Request, &ana);
            let started = started.await.unwrap();
            unit.commit().await.unwrap();
            let gauges = read(store.db()).await.unwrap();
            assert_eq!(gauges.outbox, 2);
            assert!((0.0..30.0).contains(&gauges.outbox_age), "{gauges:?}");
            let age = gauges.lease_ages["batch"];
            assert!((9.0..39.0).contains(&age), "{gauges:?}");
            assert_eq!((gauges.rotations["REQUESTED"], gauges.paused), (1, 0));

            // What is over is on hold no more, however it ended.
            let unit = store.unit().await;
            rotations::pause(&unit, &started, "by ana").await.unwrap();
            assert_eq!(read(unit.db()).await.unwrap().paused, 1);
            use RotationState::{Distributing, Grace, ReEncrypting, Superseded};
            for state in [Distributing, ReEncrypting, Grace, Superseded] {
                let now = rotations::by_id(unit.db(), started.id).await.unwrap();
                rotations::change_state(&unit, &now, state, Default::default())
                    .await
                    .unwrap();
            }
            assert_eq!(read(unit.db()).await.unwrap().paused, 0);
        }
    }
}
