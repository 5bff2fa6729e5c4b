//! Workers whose own clocks are hours off: dates that decide are the store's, and are compared there.

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{RotationState, Worker};
use rekey_tests::{
    cluster::{Cluster, Messages, Policy},
    process::Process,
    support::until,
};

use crate::processes::shifted_clock::ahead_by;

const HOUR: i64 = 60 * 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotators_with_clocks_hours_ahead_and_back_end_no_grace_early() {
    let policy = Policy {
        grace_period: "1h",
        messages: Messages::Local,
        ..Policy::default()
    };
    let cluster = Cluster::of(100, policy).await;
    let _others = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::ReEncryptor),
    ];
    let began = store_time(&cluster).await;
    let right = cluster.start(Worker::Rotator);
    cluster.rotate().await;
    let due = cluster.reaches(RotationState::Grace).await.due_at.unwrap();
    assert!(due - began >= TimeDelta::hours(1), "{due}");
    right.terminate().await;

    for seconds in [-2 * HOUR, 2 * HOUR] {
        let wrong = start_ahead(&cluster, Worker::Rotator, seconds);
        looked_at(&cluster).await;
        let view = cluster.rotation().await.unwrap();
        let seen = (view.state, view.due_at);
        assert_eq!(seen, (RotationState::Grace, Some(due)), "{seconds} s");
        wrong.terminate().await;
    }

    let _right = cluster.start(Worker::Rotator);
    looked_at(&cluster).await;
    assert_eq!(cluster.rotation().await.unwrap().due_at, Some(due));
    until("the hour's end", async || {
        // A rotator that is just looking puts back what it read.
        let past = "UPDATE rotation SET due_at = now(), resend_at = 0 WHERE state = 'GRACE'";
        sqlx::query(past).execute(&cluster.store).await.ok();
        let state = cluster.rotation().await?.state;
        (state != RotationState::Grace).then_some(())
    })
    .await;
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_all_hours_ahead_write_the_stores_time() {
    let cluster = Cluster::of(100, Policy::default()).await;
    let began = store_time(&cluster).await;
    let _workers = Worker::ALL.map(|worker| start_ahead(&cluster, worker, 2 * HOUR));
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    let certificate = view.certificate.unwrap();
    let mut before = began;
    for said in [
        "requested_at",
        "switched_at",
        "counted_before_at",
        "counted_after_at",
        "completed_at",
    ] {
        let at: DateTime<Utc> = serde_json::from_value(certificate[said].clone()).unwrap();
        assert!(at >= before, "{said} {at} is before {before}");
        before = at;
    }
    let now = store_time(&cluster).await;
    assert!(before <= now, "completed at {before}, and it is {now}");
    cluster.assert_rotated_once().await;
}

fn start_ahead(cluster: &Cluster, worker: Worker, seconds: i64) -> Process {
    let environment = ahead_by(seconds);
    let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
    cluster.start_with(worker, &environment)
}

async fn store_time(cluster: &Cluster) -> DateTime<Utc> {
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    DateTime::from_timestamp_millis(cluster.count(now).await).unwrap()
}

/// Has a rotator look at the rotation, and waits until it did.
async fn looked_at(cluster: &Cluster) {
    const LOOKS: &str = "SELECT count(*) FROM inbox WHERE handler = 'rotator.advance'";
    let before = cluster.count(LOOKS).await;
    until("a look at the rotation", async || {
        cluster.leases_end().await;
        (cluster.count(LOOKS).await > before).then_some(())
    })
    .await;
}
