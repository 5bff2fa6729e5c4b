//! What processes, brokers and databases that die, stop or go away do to a rotation: nothing is lost, nothing is done twice.

use std::{
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_domain::{RotationReason, RotationState, Worker};
use rekey_messages::RotationRequested;

use rekey_testkit::{PrivatePostgres, PrivateRabbitMq, Proxy, program};
use rekey_tests::{
    cluster::{Cluster, Messages, Policy, Servers},
    process::Process,
    support::operator,
    support::until,
};

use crate::rotations::crash::points;

const SIGABRT: i32 = 6;
const AT_ONCE: usize = 2;
/// Those that a rotation needs.
const MOVING: [Worker; 3] = [Worker::Scheduler, Worker::Rotator, Worker::ReEncryptor];

/// Small batches, so that there is a middle to be caught in.
fn many_batches() -> Policy {
    Policy {
        batch_rows: 50,
        ..Policy::default()
    }
}

#[test]
fn any_worker_killed_at_any_crash_point_is_replaced_and_nothing_is_done_twice() {
    // Built before anybody waits for it.
    program("rekey");
    let mut reached: Vec<(Worker, &str)> = Vec::new();
    for point in points() {
        match point.split_once('.').unwrap().0 {
            "scheduler" => reached.push((Worker::Scheduler, point)),
            "rotator" => reached.push((Worker::Rotator, point)),
            "re-encryptor" => reached.push((Worker::ReEncryptor, point)),
            _ if *point == "worker.failed" => reached.push((Worker::Rotator, point)),
            _ => reached.extend([(Worker::Rotator, *point), (Worker::ReEncryptor, *point)]),
        }
    }
    assert!(reached.len() > points().count());
    let points = Arc::new(Mutex::new(reached));
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let points = points.clone();
            std::thread::spawn(move || {
                while let Some((worker, point)) = next(&points) {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(survives(worker, point));
                }
            })
        })
        .collect();
    let failures = threads.into_iter().filter_map(|it| it.join().err()).count();
    assert_eq!(failures, 0, "see above which points");
}

fn next<'a>(points: &Mutex<Vec<(Worker, &'a str)>>) -> Option<(Worker, &'a str)> {
    points.lock().unwrap().pop()
}

#[expect(
    clippy::print_stdout,
    reason = "a failure is read with its crash point"
)]
async fn survives(worker: Worker, point: &str) {
    println!("{} at {point}", worker.name());
    let cluster = Cluster::of(300, many_batches()).await;
    ask_for_a_ghost(&cluster).await;
    cluster.rotate().await;
    let others = MOVING.into_iter().filter(|other| *other != worker);
    let _others: Vec<Process> = others.map(|other| cluster.start(other)).collect();
    let mut doomed = cluster.start_with(worker, &[("REKEY_CRASH_AT", point)]);
    let status = doomed.end().await;
    let status = status.unwrap_or_else(|| panic!("{point} was never reached"));
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
    cluster.assert_reads_back().await;

    cluster.leases_end().await;
    let _replacement = cluster.start(worker);
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!(
        view.moved,
        cluster.values(),
        "{point}: a kill loses no figure"
    );
    until("the ghost's letter", async || {
        (cluster.count("SELECT count(*) FROM dead_letter").await == 1).then_some(())
    })
    .await;
}

/// A process that is not there any more keeps what it held for no longer than this.
const STANDSTILL: Duration = Duration::from_secs(20);

#[test]
fn work_goes_on_within_20_s_of_the_death_of_any_process() {
    program("rekey");
    let deaths = [
        (Worker::ReEncryptor, "re-encryptor.read", Messages::RabbitMq),
        (Worker::ReEncryptor, "re-encryptor.written", Messages::Local),
        (Worker::Rotator, "rotator.planned", Messages::Local),
        (Worker::Scheduler, "scheduler.leading", Messages::RabbitMq),
    ];
    let threads = deaths.map(|(worker, point, messages)| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(goes_on_after(worker, point, messages));
        })
    });
    let failures = threads.into_iter().filter_map(|it| it.join().err()).count();
    assert_eq!(failures, 0, "see above which");
}

/// Grows with each tick of a scheduler that leads.
const LED: &str = "SELECT coalesce(max(until), 0)::bigint FROM lease WHERE name = 'scheduler'";

/// One batch at a time, so that nothing else is done while one is held by who died.
async fn goes_on_after(worker: Worker, point: &str, messages: Messages) {
    let policy = Policy {
        messages,
        concurrency: 1,
        ..many_batches()
    };
    let cluster = Cluster::of(200, policy).await;
    let others = MOVING.into_iter().filter(|other| *other != worker);
    let _others: Vec<Process> = others.map(|other| cluster.start(other)).collect();
    let mut doomed = cluster.start_with(worker, &[("REKEY_CRASH_AT", point)]);
    cluster.rotate().await;
    doomed.end().await.expect("it dies at its crash point");
    let (died, led) = (Instant::now(), cluster.count(LED).await);
    let _another = cluster.start(worker);
    until("a leader", async || {
        (cluster.count(LED).await > led).then_some(())
    })
    .await;
    assert!(
        died.elapsed() < STANDSTILL,
        "led after {:?}",
        died.elapsed()
    );
    let (mut seen, mut moved) = (String::new(), died);
    let view = until("the rotation to be completed", async || {
        let view = cluster.rotation().await;
        let now = format!("{view:?}");
        if seen != now {
            (seen, moved) = (now, Instant::now());
        }
        let still = moved.elapsed();
        assert!(
            still < STANDSTILL,
            "{point}: {still:?} without a step: {view:#?}"
        );
        view.filter(|view| view.state == RotationState::Completed)
    })
    .await;
    cluster.assert_rotated_once().await;
    assert_eq!(
        view.moved,
        cluster.values(),
        "{point}: a kill loses no figure"
    );
}

/// A request for a keyring that is not there, so that a handler fails.
async fn ask_for_a_ghost(cluster: &Cluster) {
    let unit = cluster.services.store.begin().await.unwrap();
    let ghost = RotationRequested::of_all("ghost".parse().unwrap(), RotationReason::Request);
    unit.send(&ghost).await.unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_in_the_middle_and_comes_back_loses_nothing() {
    let mut node = PrivateRabbitMq::start().unwrap();
    let servers = Servers {
        amqp: node.amqp_url(),
        rabbitmq_api: node.api_url(),
        ..Servers::shared()
    };
    let cluster = Cluster::on(servers, 1_500, many_batches()).await;
    let _workers = cluster.start_all(2);
    cluster.rotate().await;
    cluster.moves().await;
    node.kill();
    let under_new = cluster.under(2).await;
    assert!(
        under_new < cluster.values(),
        "killed too late to show anything"
    );
    node.restart().unwrap();
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_gone_workers_live_are_not_ready_and_find_it_again_in_seconds() {
    let mut cluster = Cluster::of(600, many_batches()).await;
    let proxy = Proxy::to(&cluster.places.amqp).await;
    cluster.places.amqp = proxy.address().to_string();
    let workers = cluster.start_all(1);
    for worker in &workers {
        worker.answers("/readyz", 200).await;
    }
    proxy.refuse();
    for worker in &workers {
        worker.answers("/readyz", 503).await;
        worker.answers("/livez", 200).await;
    }
    // It is gone for longer than any retry of a client library would last by default.
    cluster.rotate().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(cluster.rotation().await.is_none());
    proxy.restore();
    let back = Instant::now();
    for worker in &workers {
        worker.answers("/readyz", 200).await;
    }
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "{:?}",
        back.elapsed()
    );
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_purged_from_the_broker_are_sent_again() {
    let cluster = Cluster::of(600, many_batches()).await;
    let _planners = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::Rotator),
    ];
    cluster.rotate().await;
    until("batches that wait at the broker", async || {
        let dispatched = "SELECT count(*) FROM batch WHERE state = 'DISPATCHED'";
        let shipped = "SELECT count(*) FROM outbox WHERE queue = 're-encryptor'";
        (cluster.count(dispatched).await > 0 && cluster.count(shipped).await == 0).then_some(())
    })
    .await;
    let queue = "rekey.re-encryptor";
    cluster.broker.management.purge_queue(queue).await;
    let _worker = cluster.start(Worker::ReEncryptor);
    // Half a minute passes.
    cluster.leases_end().await;
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_are_killed_in_the_middle_and_come_back_lose_nothing() {
    let (mut store, mut source) = (
        PrivatePostgres::start().unwrap(),
        PrivatePostgres::start().unwrap(),
    );
    let servers = Servers {
        store: store.url(),
        source: source.url(),
        ..Servers::shared()
    };
    let cluster = Cluster::on(servers, 1_500, many_batches()).await;
    let _workers = cluster.start_all(2);
    cluster.rotate().await;
    cluster.moves().await;
    source.kill();
    source.restart().unwrap();
    let under_new = until("the source's answer", async || {
        let rows = rekey_operations::census(&cluster.services, &operator())
            .await
            .ok()?;
        Some(rows.len())
    })
    .await;
    assert!(under_new > 0);
    store.kill();
    store.restart().unwrap();
    until("the store's answer", async || {
        let views = rekey_operations::rotation_views(&cluster.services, &operator()).await;
        views.ok().map(|_| ())
    })
    .await;
    cluster.leases_end().await;
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stopped_past_its_lease_and_continued_writes_nothing_that_counts() {
    for messages in [Messages::RabbitMq, Messages::Local] {
        let policy = Policy {
            messages,
            ..many_batches()
        };
        let cluster = Cluster::of(600, policy).await;
        let _planners = [
            cluster.start(Worker::Scheduler),
            cluster.start(Worker::Rotator),
        ];
        let stopped = cluster.start(Worker::ReEncryptor);
        cluster.rotate().await;
        let leased = "SELECT count(*) FROM lease WHERE name LIKE 'batch/%'";
        until("a batch being worked on", async || {
            (cluster.count(leased).await > 0).then_some(())
        })
        .await;
        stopped.signal("STOP");
        cluster.leases_end().await;
        let _other = cluster.start(Worker::ReEncryptor);
        let view = cluster.reaches(RotationState::Completed).await;
        stopped.signal("CONT");
        cluster.assert_rotated_once().await;
        stopped.terminate().await;
        cluster.assert_rotated_once().await;
        let after = cluster.rotation().await.unwrap();
        assert_eq!((after.moved, after.state), (view.moved, view.state));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_hands_the_schedule_on_and_its_late_tick_fires_nothing() {
    let cluster = Cluster::of(0, Policy::default()).await;
    let leads = "SELECT count(*) FROM lease WHERE name = 'scheduler'";
    let first = cluster.start(Worker::Scheduler);
    until("a leader", async || {
        (cluster.count(leads).await == 1).then_some(())
    })
    .await;
    first.signal("STOP");
    cluster.leases_end().await;
    let _second = cluster.start(Worker::Scheduler);
    until("another leader", async || {
        let holder = "SELECT count(*) FROM lease WHERE name = 'scheduler' AND until > 0";
        (cluster.count(holder).await == 1).then_some(())
    })
    .await;
    let due = "UPDATE keyring SET policy = jsonb_set(policy::jsonb, '{rotate}', '\"* * * * *\"')::text WHERE name = 'phi'";
    sqlx::query(due).execute(&cluster.store).await.unwrap();
    first.signal("CONT");
    // Both look at the same tick, a minute late.
    let late = "UPDATE schedule SET fired_up_to = fired_up_to - interval '1 minute' WHERE name = 'rotate/phi'";
    until("a schedule", async || {
        let late = sqlx::query(late).execute(&cluster.store).await.unwrap();
        (late.rows_affected() == 1).then_some(())
    })
    .await;
    let fired = "SELECT count(*) FROM audit_entry WHERE action = 'rotation.started'";
    let _rotator = cluster.start(Worker::Rotator);
    until("the tick", async || {
        (cluster.count(fired).await > 0).then_some(())
    })
    .await;
    let rotations = cluster.count("SELECT count(*) FROM rotation").await;
    assert_eq!(rotations, 1);
}
