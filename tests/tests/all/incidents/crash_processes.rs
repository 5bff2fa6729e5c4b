//! The same over PostgreSQL and RabbitMQ: the worker that dies in an emergency is replaced by another process.

use std::os::unix::process::ExitStatusExt;

use rekey_domain::{RotationState, Worker};
use rekey_operations::verify_audit;
use rekey_tests::{
    cluster::{Cluster, Policy},
    process::Process,
    support::{operator, until},
};

use super::crash::{AFTERWARDS, reached};
use crate::rotations::crash::{SIGABRT, ask_for_a_ghost, at_each};

const ALL: [Worker; 3] = [Worker::Scheduler, Worker::Rotator, Worker::ReEncryptor];
/// One after the switch, and one between a write and its record.
const IN_SHORT: [&str; 2] = ["rotator.switched", "re-encryptor.written"];
const DEAD_LETTERS: &str = "SELECT count(*) FROM dead_letter";

#[test]
fn a_worker_killed_in_an_emergency_is_replaced_and_nothing_is_left() {
    at_each(IN_SHORT.iter(), survives);
}

#[test]
#[ignore = "4 minutes; run by hand"]
fn any_worker_killed_at_any_crash_point_of_an_emergency_is_replaced_and_nothing_is_left() {
    at_each(reached(), survives);
}

async fn survives(point: &'static str) {
    for worker in ALL.into_iter().filter(|worker| passes(*worker, point)) {
        is_replaced(worker, point).await;
    }
}

/// Whether a worker passes the point in an emergency; what fails is a request, which the rotator takes.
fn passes(worker: Worker, point: &str) -> bool {
    match point.split_once('.') {
        Some(("worker", "failed")) => worker == Worker::Rotator,
        Some(("worker", _)) => worker != Worker::Scheduler,
        whose => whose.is_some_and(|(whose, _)| whose == worker.name()),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a failure is read with its crash point"
)]
async fn is_replaced(worker: Worker, point: &'static str) {
    println!("{} at {point}", worker.name());
    let policy = Policy {
        batch_rows: 50,
        ..Policy::default()
    };
    let cluster = Cluster::of(300, policy).await;
    let ghosts = i64::from(point == "worker.failed");
    if ghosts > 0 {
        ask_for_a_ghost(&cluster.services).await;
    }
    // Without a standby the rotator makes the switch.
    for key in ["phi/2", "phi/1"] {
        cluster.rekey(&["compromise", key, "--reason", "it was in a paste"]);
    }
    let others = ALL.into_iter().filter(|other| *other != worker);
    let _others: Vec<Process> = others.map(|other| cluster.start(other)).collect();
    dies_at(&cluster, worker, point).await;

    cluster.leases_end().await;
    let _replacement = cluster.start(worker);
    cluster.reaches(RotationState::Completed).await;
    assert_nothing_is_left(&cluster, point).await;
    until("what nobody can handle, and nothing else", async || {
        (cluster.count(DEAD_LETTERS).await == ghosts).then_some(())
    })
    .await;
}

async fn dies_at(cluster: &Cluster, worker: Worker, point: &str) {
    let mut doomed = cluster.start_with(worker, &[("REKEY_CRASH_AT", point)]);
    let status = doomed.end().await;
    let status = status.unwrap_or_else(|| panic!("crash point {point} was never reached"));
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
    cluster.assert_reads_back().await;
}

async fn assert_nothing_is_left(cluster: &Cluster, point: &str) {
    for (sql, expected) in AFTERWARDS {
        assert_eq!(cluster.count(sql).await, expected, "{point}: {sql}");
    }
    assert_eq!(cluster.under(1).await, 0, "{point}");
    assert_eq!(cluster.under(3).await, cluster.values(), "{point}");
    cluster.assert_reads_back().await;
    let verdict = verify_audit(&cluster.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new(), "{point}");
}
