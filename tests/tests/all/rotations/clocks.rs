//! The workers under a store whose clock jumps, and schedules that fire. Their own clocks decide
//! nothing: `process_clocks`.

use std::collections::HashSet;

use chrono::TimeDelta;
use rekey_domain::{KeyringPolicy, RotationState};
use rekey_store::{
    StoreError,
    rotations::{self, LOOK_AGAIN},
    schedules::{fired_up_to, settle},
};

use rekey_tests::support::{Deployment, Engine, phi, short, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_clock_jumps_back_and_forth_neither_stops_a_rotation_nor_makes_two() {
    let clinic = Deployment::with(150, short()).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let mut seen = Vec::new();
    until("a rotation under a bad clock", async || {
        let view = clinic.rotation(&phi()).await?;
        if !seen.contains(&view.state) {
            let by = match view.state {
                RotationState::Distributing | RotationState::Grace => -TimeDelta::hours(1),
                RotationState::ReEncrypting => TimeDelta::days(1),
                RotationState::Verifying => -TimeDelta::days(1),
                _ => TimeDelta::hours(1),
            };
            clock_jumps(&clinic, by).await;
            seen.push(view.state);
        }
        (view.state == RotationState::Completed).then_some(())
    })
    .await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

/// As if the store's clock had jumped: whatever it waits for lies as much nearer, or further ahead.
async fn clock_jumps(clinic: &Deployment, by: TimeDelta) {
    let milliseconds = by.num_milliseconds();
    for (table, date) in [
        ("lease", "until"),
        ("outbox", "available_at"),
        ("outbox", "leased_until"),
        ("batch", "resend_at"),
        ("rotation", "resend_at"),
    ] {
        let move_dates = format!("UPDATE {table} SET {date} = {date} - ? WHERE {date} > 0");
        let moved = sqlx::query(sqlx::AssertSqlSafe(move_dates)).bind(milliseconds);
        moved.execute(&clinic.store).await.unwrap();
    }
    until("a rotation that waits from another time", async || {
        let waits = due_jumps(clinic, by).await;
        waits.ok()
    })
    .await;
}

async fn due_jumps(clinic: &Deployment, by: TimeDelta) -> Result<(), StoreError> {
    let unit = clinic.services.store.begin().await?;
    for rotation in rotations::not_over(unit.db()).await? {
        let due = rotation.due_at.map(|due| due - by);
        rotations::wait_until(&unit, &rotation, due, LOOK_AGAIN).await?;
    }
    unit.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_fires_once_though_two_schedulers_run_and_missed_ticks_fire_once() {
    let policy = KeyringPolicy {
        rotate: Some("0 0 1 1 *".to_owned()),
        ..short()
    };
    let clinic = Deployment::with(0, policy).await;
    let [mut one, mut two] = [Engine::default(), Engine::default()];
    one.scheduler(&clinic.process("one").await);
    two.scheduler(&clinic.process("two").await);

    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 0, "nothing is due");
    years_pass(&clinic, 1).await;
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 1, "new year");
    years_pass(&clinic, 5).await;
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 2, "five new years, late");
    years_pass(&clinic, -3).await;
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 2, "stepped back");
    one.stop().await;
    years_pass(&clinic, 4).await;
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 3, "the other leads");
    two.stop().await;
    assert_eq!(clinic.count("SELECT count(*) FROM lease").await, 0);
}

/// As if so many years had passed since the schedule was looked at.
async fn years_pass(clinic: &Deployment, years: i64) {
    let unit = clinic.services.store.begin().await.unwrap();
    let settled = fired_up_to(&unit, "rotate/phi").await.unwrap();
    let before = settled - TimeDelta::days(years * 365);
    assert!(settle(&unit, "rotate/phi", settled, before).await.unwrap());
    unit.commit().await.unwrap();
}

/// Waits until a scheduler has led through two whole ticks.
async fn ticks(clinic: &Deployment) {
    // Each tick renews the lease, after what it found to do.
    const RENEWED: &str = "SELECT coalesce(max(until), 0) FROM lease WHERE name = 'scheduler'";
    let mut seen = HashSet::new();
    until("ticks", async || {
        seen.insert(clinic.count(RENEWED).await);
        seen.remove(&0);
        // Four renewals are a tick's; what was there before, and half a tick, do not count.
        (seen.len() > 9).then_some(())
    })
    .await;
}

async fn requests(clinic: &Deployment) -> i64 {
    clinic
        .count("SELECT count(*) FROM outbox WHERE type = 'rekey.rotation.requested.v1'")
        .await
}
