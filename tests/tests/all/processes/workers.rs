//! Many processes over PostgreSQL, RabbitMQ and a KMS, under exactly the rights they need.

use rekey_domain::{RotationState, Worker};
use rekey_tests::{
    cluster::{Cluster, Messages, Policy},
    support::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_over_rabbitmq_rotate_every_value_with_no_more_rights_than_granted() {
    let cluster = Cluster::of(2_000, Policy::default()).await;
    let workers = cluster.start_all(2);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!((view.moved, view.quarantined), (cluster.values(), 0));
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
    for worker in workers {
        worker.terminate().await;
    }
    assert_eq!(cluster.count("SELECT count(*) FROM lease").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_over_the_store_alone_share_the_batches() {
    let policy = Policy {
        messages: Messages::Local,
        ..Policy::default()
    };
    let cluster = Cluster::of(2_000, policy).await;
    let workers = cluster.start_all(2);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!((view.moved, view.quarantined), (cluster.values(), 0));
    for worker in workers {
        worker.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_try_a_value_in_quarantine_again_with_no_more_rights_than_granted() {
    let cluster = Cluster::of(600, Policy::default()).await;
    let on_source = async |sql: &'static str| {
        let done = sqlx::raw_sql(sql).execute(&cluster.source).await;
        done.unwrap();
    };
    on_source(
        "CREATE TABLE backup AS SELECT id, ssn FROM patients WHERE id = 7;
         UPDATE patients SET ssn = set_byte(ssn, 40, get_byte(ssn, 40) # 1) WHERE id = 7",
    )
    .await;
    let workers = cluster.start_all(2);
    cluster.rotate().await;
    let rotation = cluster.reaches(RotationState::Completed).await;
    assert_eq!(rotation.quarantined, 1);
    on_source("UPDATE patients SET ssn = backup.ssn FROM backup WHERE backup.id = patients.id")
        .await;
    let asked = cluster.rekey(&["quarantine", "retry"]);
    assert!(
        asked.contains("tries 1 value(s) of clinic.patients.ssn again"),
        "{asked}"
    );
    let sweep = until("the end of the sweep", async || {
        let view = cluster.reaches(RotationState::Completed).await;
        (view.id != rotation.id).then_some(view)
    })
    .await;
    assert_eq!((sweep.rows, sweep.moved, sweep.quarantined), (1, 1, 0));
    assert_eq!(
        cluster
            .count("SELECT count(*) FROM quarantine WHERE resolved_at IS NULL")
            .await,
        0
    );
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
    assert_eq!(cluster.under(2).await, cluster.values());
    cluster.assert_reads_back().await;
    for worker in workers {
        worker.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_an_urgent_rotation_go_through_the_urgent_queue() {
    let cluster = Cluster::of(800, Policy::default()).await;
    let _planners = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::Rotator),
    ];
    cluster.rekey(&["rotate", "phi", "--urgent"]);
    let queues = &cluster.broker.management;
    let in_flight = u64::from(Policy::default().concurrency);
    until("batches in the urgent queue", async || {
        let held = queues.held_by("rekey.re-encryptor.urgent").await;
        (held >= in_flight).then_some(())
    })
    .await;
    assert_eq!(queues.held_by("rekey.re-encryptor").await, 0);
    let _worker = cluster.start(Worker::ReEncryptor);
    let view = cluster.reaches(RotationState::Completed).await;
    assert!(view.urgent);
    cluster.assert_rotated_once().await;
    until("an empty urgent queue", async || {
        let held = queues.held_by("rekey.re-encryptor.urgent").await;
        (held == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_request_hurries_the_rotation_it_joins() {
    let cluster = Cluster::of(800, Policy::default()).await;
    let _planners = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::Rotator),
    ];
    cluster.rotate().await;
    let queues = &cluster.broker.management;
    let dispatched = "SELECT count(*) FROM batch WHERE state = 'DISPATCHED'";
    until("batches that wait among others", async || {
        (cluster.count(dispatched).await > 0).then_some(())
    })
    .await;
    cluster.rekey(&["rotate", "phi", "--urgent"]);
    until("the same batches past the others", async || {
        let held = queues.held_by("rekey.re-encryptor.urgent").await;
        (held > 0).then_some(())
    })
    .await;
    let _worker = cluster.start(Worker::ReEncryptor);
    assert!(cluster.reaches(RotationState::Completed).await.urgent);
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_a_rotation_that_ended_long_ago_are_removed_with_no_more_rights_than_granted() {
    let policy = Policy {
        messages: Messages::Local,
        ..Policy::default()
    };
    let cluster = Cluster::of(300, policy).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    for long_ago in [
        "UPDATE rotation SET ended_at = '2020-02-29'",
        "UPDATE schedule SET fired_up_to = '2020-02-29' WHERE name = 'prune/batches'",
    ] {
        sqlx::query(long_ago).execute(&cluster.store).await.unwrap();
    }
    until("no batch rows", async || {
        (cluster.count("SELECT count(*) FROM batch").await == 0).then_some(())
    })
    .await;
    let now = cluster.reaches(RotationState::Completed).await;
    assert_eq!(
        (now.moved, now.rows, now.batches, now.batches_done),
        (cluster.values(), view.rows, view.batches, view.batches_done)
    );
    for worker in workers {
        worker.terminate().await;
    }
}
