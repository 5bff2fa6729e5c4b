//! What workers measure is what happened.

use std::collections::HashMap;

use rekey_domain::{RotationState, Worker};
use rekey_runtime::metrics as names;
use rekey_tests::{
    cluster::{Cluster, Policy},
    support::until,
};

/// A figure, which must be there.
fn of(measured: &HashMap<String, f64>, name: &str, labels: &str) -> f64 {
    let name = match labels {
        "" => name.to_owned(),
        labels => format!("{name}{{{labels}}}"),
    };
    let found = measured.get(&name);
    *found.unwrap_or_else(|| panic!("{name} is not measured: {measured:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_after_a_rotation_are_what_it_did() {
    let cluster = Cluster::of(600, Policy::default()).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    let [scheduler, rotator, re_encryptor] = &workers[..] else {
        panic!("three workers")
    };
    let done = "SELECT count(*) FROM batch WHERE state = 'DONE'";
    let batches = cluster.count(done).await as f64;
    let measured = re_encryptor.metrics().await;
    for (name, labels, expected) in [
        (names::VALUES_MOVED, "", view.moved as f64),
        (names::ROW_CONFLICTS, "", 0.0),
        (names::VALUES_QUARANTINED, "", 0.0),
        (names::BATCHES, r#"outcome="done""#, batches),
        (names::BATCHES, r#"outcome="failed""#, 0.0),
        (names::RETRIES, r#"handler="re-encryptor.batch""#, 0.0),
        (names::DEAD_LETTERS, r#"handler="re-encryptor.batch""#, 0.0),
        (names::QUEUE_DEPTH, r#"queue="re-encryptor""#, 0.0),
        (names::QUEUE_DEPTH, r#"queue="re-encryptor.urgent""#, 0.0),
        (names::KMS_ERRORS, r#"operation="decrypt""#, 0.0),
        (names::ROTATIONS, r#"state="COMPLETED""#, 1.0),
        (names::ROTATIONS_PAUSED, "", 0.0),
    ] {
        assert_eq!(of(&measured, name, labels), expected, "{name} {labels}");
    }
    assert!(of(&measured, names::KMS_CALLS, r#"operation="decrypt""#) >= 2.0);
    let made = rotator.metrics().await;
    // Key 3, and its first encryption of audit entries needs no other.
    assert!(of(&made, names::KMS_CALLS, r#"operation="generate-data-key""#) >= 1.0);
    let waiting = scheduler.metrics().await;
    let age = of(&waiting, names::LEASE_AGE, r#"kind="scheduler""#);
    assert!((0.0..60.0).contains(&age), "{age}");
    assert!(of(&waiting, names::OUTBOX_AGE, "") < 60.0);
    assert!(of(&waiting, names::OUTBOX_DEPTH, "") < 60.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_database_refuses_is_given_up_and_the_rotation_says_so() {
    let policy = Policy {
        retry_attempts: 2,
        ..Policy::default()
    };
    let cluster = Cluster::of(200, policy).await;
    let _planners = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::Rotator),
    ];
    cluster.rotate().await;
    let planned = "SELECT count(*) FROM rotation WHERE planned";
    until("a plan", async || {
        (cluster.count(planned).await > 0).then_some(())
    })
    .await;
    let application = &cluster.source;
    let refuse = sqlx::query("ALTER TABLE visits ADD CONSTRAINT frozen CHECK (false) NOT VALID");
    refuse.execute(application).await.unwrap();
    let re_encryptor = cluster.start(Worker::ReEncryptor);
    let failed = cluster.reaches(RotationState::Failed).await;
    let why = failed.failure.unwrap();
    assert!(why.contains("a CHECK constraint"), "{why}");
    let given_up = "SELECT count(*) FROM batch WHERE state = 'FAILED'";
    assert_eq!(cluster.count(given_up).await, 1);
    let measured = re_encryptor.metrics().await;
    let handler = r#"handler="re-encryptor.batch""#;
    // Trying again would not help.
    assert_eq!(of(&measured, names::RETRIES, handler), 0.0);
    assert_eq!(of(&measured, names::DEAD_LETTERS, handler), 1.0);
    let failures = of(&measured, names::BATCHES, r#"outcome="failed""#);
    assert_eq!(failures, 1.0);
    let allow = sqlx::query("ALTER TABLE visits DROP CONSTRAINT frozen");
    allow.execute(application).await.unwrap();
    cluster.rekey(&["rotations", "retry", &failed.id.to_string()]);
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}
