//! Batches of parts: each in its own form, and what becomes of a part that was written anew.

use rekey_domain::{Principal, RotationReason};

use super::*;
use crate::{
    database::test_store::{Kind, TestStore},
    rotations,
};

fn part(name: &str, form: &str) -> PartId {
    PartId {
        name: name.to_owned(),
        form: form.to_owned(),
    }
}

/// A rotation with one planned range of `p` in form 1, and its table.
async fn planned(store: &TestStore) -> (Rotation, Uuid) {
    let keyring = store.keyring("phi").await;
    let unit = store.unit().await;
    let principal = Principal::worker("rotator");
    let rotation = rotations::start(&unit, keyring.id, RotationReason::Request, &principal);
    let (rotation, table) = (rotation.await.unwrap(), Uuid::now_v7());
    let range = Range { first: 0, last: 9 };
    plan(&unit, &rotation, table, (&part("p", "1"), range), None)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    (rotation, table)
}

#[tokio::test]
async fn a_part_is_covered_in_the_form_it_was_planned_in_and_the_pass() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let (mut rotation, table) = planned(&store).await;
        let covered = async |rotation: &Rotation, table, name: &str, form: &str| {
            let planned = planned_parts(store.db(), rotation, table, &[name]).await;
            planned.unwrap().contains(&part(name, form))
        };
        assert!(covered(&rotation, table, "p", "1").await);
        assert!(!covered(&rotation, table, "p", "2").await);
        assert!(!covered(&rotation, table, "q", "1").await);
        assert!(!covered(&rotation, Uuid::now_v7(), "p", "1").await);
        rotation.pass += 1;
        assert!(!covered(&rotation, table, "p", "1").await);
    }
}

#[tokio::test]
async fn every_part_has_its_own_first_block_and_no_range_is_planned_twice() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let (rotation, table) = planned(&store).await;
        let range = Range { first: 0, last: 9 };
        for other in [part("p", "2"), part("q", "1")] {
            let unit = store.unit().await;
            plan(&unit, &rotation, table, (&other, range), None)
                .await
                .unwrap();
            unit.commit().await.unwrap();
        }
        let unit = store.unit().await;
        let twice = plan(&unit, &rotation, table, (&part("p", "1"), range), None).await;
        assert!(twice.is_err());
    }
}

#[tokio::test]
async fn a_void_batch_is_over_and_keeps_what_it_moved() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let (rotation, _) = planned(&store).await;
        let unit = store.unit().await;
        let held = rotations::lock(&unit, rotation.id).await.unwrap();
        dispatch(&unit, &held, 1).await.unwrap();
        let in_flight = to_resend(unit.db(), i64::MAX, i64::MAX).await;
        let batch = in_flight.unwrap().remove(0);
        let tally = Tally {
            moved: 7,
            ..Tally::default()
        };
        void(&unit, &held, &batch, tally).await.unwrap();
        let ended = unit.now();
        unit.commit().await.unwrap();
        let batch = by_id(store.db(), batch.id).await.unwrap();
        assert!(!batch.state.0.is_open());
        assert_eq!((batch.state.0, batch.moved), (BatchState::Void, 7));
        assert_eq!(batch.ended_at, Some(ended));
        let unit = store.unit().await;
        let held = rotations::lock(&unit, rotation.id).await.unwrap();
        let tally = Tally::default();
        assert!(finish(&unit, &held, &batch, tally).await.is_err());
    }
}

#[tokio::test]
async fn a_pass_covers_a_part_once_all_of_its_ranges_are_done_and_none_is_missing() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let (rotation, table) = planned(&store).await;
        let names = async || {
            let covered = covered(store.db(), &rotation, table).await.unwrap();
            let names = covered.into_iter().map(|one| one.part.to_string());
            names.collect::<Vec<_>>()
        };
        let end = async |state: BatchState| {
            let unit = store.unit().await;
            let set = batch::ActiveModel {
                state: Set(Text(state)),
                ended_at: Set(Some(unit.now())),
                ..Default::default()
            };
            let open = batch::Column::State.eq(Text(BatchState::Planned));
            let open = batch::Entity::update_many().set(set).filter(open);
            open.exec(unit.db()).await.unwrap();
            unit.commit().await.unwrap();
        };
        assert!(names().await.is_empty(), "it is planned only");
        end(BatchState::Done).await;
        assert_eq!(names().await.len(), 1);
        let add = async |first, state| {
            let unit = store.unit().await;
            let range = Range {
                first,
                last: first + 9,
            };
            plan(&unit, &rotation, table, (&part("p", "1"), range), None)
                .await
                .unwrap();
            unit.commit().await.unwrap();
            end(state).await;
        };
        add(20, BatchState::Done).await;
        assert!(names().await.is_empty(), "blocks 10 to 19 are in no range");

        add(10, BatchState::Done).await;
        assert_eq!(names().await.len(), 1);
        add(30, BatchState::Void).await;
        assert!(names().await.is_empty(), "one was void");
        let void = void_parts(store.db(), &rotation, table).await.unwrap();
        assert_eq!(void, HashSet::from([part("p", "1")]));
        let unit = store.unit().await;
        let held = rotations::lock(&unit, rotation.id).await.unwrap();
        assert!(
            replan_void(&unit, &held, table, &part("p", "1"))
                .await
                .unwrap()
        );
        unit.commit().await.unwrap();
        let unfinished = crate::rotations::progress::unfinished(store.db(), &rotation).await;
        assert_eq!(unfinished.unwrap().planned, 1);
    }
}

#[tokio::test]
async fn what_another_leads_is_sent_with_it_or_later_by_itself() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let (rotation, table) = planned(&store).await;
        let unit = store.unit().await;
        let first = next_of(&unit, &rotation).await.remove(0);
        let range = Range { first: 0, last: 0 };
        for name in ["q", "r"] {
            let part = part(name, "1");
            let led_by = Some(first.id);
            plan(&unit, &rotation, table, (&part, range), led_by)
                .await
                .unwrap();
        }
        let names = |led: Vec<Batch>| led.into_iter().map(|one| one.part).collect::<Vec<_>>();
        let held = rotations::lock(&unit, rotation.id).await.unwrap();
        let left = dispatch(&unit, &held, 9).await.unwrap().left;
        assert_eq!((left.planned, left.dispatched), (0, 1));
        assert_eq!(
            names(led(unit.db(), &rotation, &first).await.unwrap()),
            ["q", "r"]
        );
        let q = led(unit.db(), &rotation, &first).await.unwrap().remove(0);
        finish(&unit, &held, &q, Tally::default()).await.unwrap();
        assert_eq!(
            names(led(unit.db(), &rotation, &first).await.unwrap()),
            ["r"]
        );
        let first = by_id(unit.db(), first.id).await.unwrap();
        fail(&unit, &held, &first, "a test").await.unwrap();
        assert!(led(unit.db(), &rotation, &first).await.unwrap().is_empty());
        let left = dispatch(&unit, &held, 9).await.unwrap().left;
        assert_eq!((left.planned, left.dispatched, left.failed), (0, 1, 1));
        // As an older program, which knows of no leaders, may have left one.
        let part = part("s", "1");
        let late = plan(&unit, &rotation, table, (&part, range), Some(first.id));
        let late = by_id(unit.db(), late.await.unwrap()).await.unwrap();
        let failed = batch::ActiveModel {
            state: Set(Text(BatchState::Failed)),
            ..Default::default()
        };
        let only = batch::Column::Id.eq(late.id);
        let update = batch::Entity::update_many().set(failed).filter(only);
        update.exec(unit.db()).await.unwrap();
        replan_failed(&unit, &rotation).await.unwrap();
        let again = by_id(unit.db(), late.id).await.unwrap();
        assert_eq!((again.state.0, again.led_by), (BatchState::Planned, None));
    }
}

async fn next_of(unit: &Unit, rotation: &Rotation) -> Vec<Batch> {
    let batches = batch::Entity::find().filter(of_pass(rotation, BatchState::Planned));
    batches.all(unit.db()).await.unwrap()
}
