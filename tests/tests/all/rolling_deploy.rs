//! A rolling deploy: workers of the last schema go on after it was expanded under them, and beside new ones.

use rekey_domain::RotationState;
use rekey_testkit::{previous_programs, programs};

use crate::cluster::{Cluster, Policy, Servers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_workers_go_on_after_the_schema_was_expanded_and_beside_new_ones_in_mid_rotation() {
    let policy = Policy {
        batch_rows: 25,
        ..Policy::default()
    };
    let old = tokio::task::spawn_blocking(previous_programs)
        .await
        .unwrap();
    let mut cluster = Cluster::made_by(old, Servers::shared(), 2_000, policy).await;
    let old_workers = cluster.start_all(1);
    for worker in &old_workers {
        worker.answers("/readyz", 200).await;
    }
    cluster.programs = programs().to_owned();
    cluster.migrate();
    cluster.grant_anew().await;
    cluster.fill().await;
    cluster.rotate().await;
    cluster.moves().await;

    let new_workers = cluster.start_all(1);
    for worker in &new_workers {
        worker.answers("/readyz", 200).await;
    }
    let moved = cluster.rotation().await.unwrap().moved;
    assert!(moved < cluster.values(), "too late to show anything");
    for worker in old_workers {
        worker.terminate().await;
    }
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}
