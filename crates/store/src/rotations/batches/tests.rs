//! Units that dispatch and end batches at once.

use rekey_domain::{PartId, Principal, RotationReason};
use tokio::sync::Barrier;

use super::*;
use crate::{
    Store,
    database::test_store::{Kind, TestStore},
    rotations::progress::{Tally, unfinished},
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
        let planned = plan(&unit, &rotation, Uuid::now_v7(), (&part, range), None).await;
        planned.unwrap();
    }
    unit.commit().await.unwrap();
    rotation
}

async fn dispatch_on(store: &Store, rotation: &Rotation, concurrency: u32) {
    let unit = store.begin().await.unwrap();
    let held = rotations::lock(&unit, rotation.id).await.unwrap();
    dispatch(&unit, &held, concurrency).await.unwrap();
    unit.commit().await.unwrap();
}

/// Ends a batch as the re-encryptor does; whether it saw itself as the last. Waits a moment for
/// the other at each step, where nothing keeps the two from being side by side.
async fn finish_on(store: &Store, rotation: &Rotation, batch: &Batch, other: &Barrier) -> bool {
    let meet = async || tokio::time::timeout(Duration::from_millis(300), other.wait()).await;
    let unit = store.begin().await.unwrap();
    let held = rotations::lock(&unit, rotation.id).await.unwrap();
    let tally = Tally::default();
    finish(&unit, &held, batch, tally).await.unwrap();
    let _ = meet().await;
    let left = unfinished(unit.db(), rotation).await.unwrap();
    let _ = meet().await;
    unit.commit().await.unwrap();
    left.dispatched == 0
}

#[tokio::test]
async fn units_that_dispatch_at_once_stay_within_the_concurrency() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let elsewhere = store.another().await;
        let rotation = planned(&store, 10).await;
        let here = dispatch_on(&store, &rotation, 3);
        tokio::join!(here, dispatch_on(&elsewhere, &rotation, 3));
        let left = unfinished(store.db(), &rotation).await.unwrap();
        assert_eq!((left.dispatched, left.planned), (3, 7));
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
        let held = rotations::lock(&unit, rotation.id).await.unwrap();
        let tally = Tally::default();
        finish(&unit, &held, &in_flight[0], tally).await.unwrap();
        let dispatched = dispatch(&unit, &held, 5).await.unwrap();
        assert_eq!(dispatched.left.planned, 1, "nothing more is dispatched");
    }
}

#[tokio::test]
async fn of_the_last_two_batches_ended_at_once_one_knows_that_it_was_the_last() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let elsewhere = store.another().await;
        let rotation = planned(&store, 2).await;
        dispatch_on(&store, &rotation, 2).await;
        let in_flight = to_resend(store.db(), i64::MAX, i64::MAX).await;
        let batches = in_flight.unwrap();
        let other = Barrier::new(2);
        let here = finish_on(&store, &rotation, &batches[0], &other);
        let there = finish_on(&elsewhere, &rotation, &batches[1], &other);
        let (here, there) = tokio::join!(here, there);
        assert!(here != there, "{here} {there}");
    }
}
