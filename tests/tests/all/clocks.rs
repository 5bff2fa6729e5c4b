//! The workers under clocks that jump, and schedules that fire.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{KeyringPolicy, RotationState};
use rekey_runtime::{Clock, ManualClock, SystemClock};

use crate::support::{Deployment, Engine, phi, short, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_back_and_forth_neither_stops_a_rotation_nor_makes_two() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let clinic = Deployment::with(150, short(), clock.clone()).await;
    let engine = Engine::start(&clinic.services);
    let ticking = tokio::spawn({
        let clock = clock.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                clock.step(TimeDelta::milliseconds(10));
            }
        }
    });
    clinic.rotate(&phi()).await;
    let mut seen = Vec::new();
    until("a rotation under a bad clock", async || {
        let view = clinic.rotation(&phi()).await?;
        if !seen.contains(&view.state) {
            clock.step(match view.state {
                RotationState::Distributing | RotationState::Grace => -TimeDelta::hours(1),
                RotationState::ReEncrypting => TimeDelta::days(1),
                RotationState::Verifying => -TimeDelta::days(1),
                _ => TimeDelta::hours(1),
            });
            seen.push(view.state);
        }
        (view.state == RotationState::Completed).then_some(())
    })
    .await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
    ticking.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_fires_once_though_two_schedulers_run_and_missed_ticks_fire_once() {
    let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::at(noon));
    let policy = KeyringPolicy {
        rotate: Some("0 0 * * *".to_owned()),
        ..short()
    };
    let clinic = Deployment::with(0, policy, clock.clone()).await;
    let [mut one, mut two] = [Engine::default(), Engine::default()];
    one.scheduler(&clinic.process("one").await);
    two.scheduler(&clinic.process("two").await);

    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 0, "nothing is due");
    clock.step(TimeDelta::hours(12));
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 1, "midnight");
    clock.step(TimeDelta::days(5));
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 2, "five midnights, late");
    clock.step(-TimeDelta::days(3));
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 2, "stepped back");
    one.stop().await;
    clock.step(TimeDelta::days(4));
    ticks(&clinic).await;
    assert_eq!(requests(&clinic).await, 3, "the other leads");
    two.stop().await;
    assert_eq!(clinic.count("SELECT count(*) FROM lease").await, 0);
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
