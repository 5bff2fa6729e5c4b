//! A rolling deploy: workers of the last schema go on after it was expanded under them, and beside new ones.

use rekey_domain::{RotationKind, RotationState};
use rekey_testkit::{previous_programs, programs};

use rekey_tests::{
    cluster::{Cluster, Policy, Servers},
    support::until,
};

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
    // What the old programs gave; else the new ones wait a day, as nothing is known.
    let known = "ALTER TABLE key DISABLE TRIGGER rekey_guard_update; UPDATE key SET longest_lease = 1000; \
        ALTER TABLE key ENABLE ALWAYS TRIGGER rekey_guard_update";
    sqlx::raw_sql(known).execute(&cluster.store).await.unwrap();
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

/// Programs from before sweeps read no kind of rotation: it is what one looks like to old ones that counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_workers_make_no_switch_of_a_sweep_that_a_new_program_asks_for() {
    let old = tokio::task::spawn_blocking(previous_programs)
        .await
        .unwrap();
    let mut cluster = Cluster::made_by(old, Servers::shared(), 300, Policy::default()).await;
    let old_workers = cluster.start_all(1);
    for worker in &old_workers {
        worker.answers("/readyz", 200).await;
    }
    cluster.programs = programs().to_owned();
    cluster.migrate();
    cluster.grant_anew().await;
    cluster.fill().await;
    let on_source = async |sql: &'static str| {
        let done = sqlx::raw_sql(sql).execute(&cluster.source).await;
        done.unwrap();
    };
    on_source(
        "CREATE TABLE backup AS SELECT id, ssn FROM patients WHERE id = 7;
         UPDATE patients SET ssn = set_byte(ssn, 40, get_byte(ssn, 40) # 1) WHERE id = 7",
    )
    .await;
    cluster.rotate().await;
    let rotation = cluster.reaches(RotationState::Completed).await;
    assert_eq!(rotation.quarantined, 1);
    on_source("UPDATE patients SET ssn = backup.ssn FROM backup WHERE backup.id = patients.id")
        .await;
    cluster.rekey(&["quarantine", "retry"]);
    let sweep = until("the end of the sweep", async || {
        let view = cluster.reaches(RotationState::Completed).await;
        (view.id != rotation.id).then_some(view)
    })
    .await;
    assert_eq!((sweep.kind, sweep.moved), (RotationKind::Sweep, 1));
    let switched =
        "SELECT count(*) FROM audit_entry WHERE action = 'key.activated' AND subject = 'phi/3'";
    assert_eq!(cluster.count(switched).await, 0);
    assert_eq!(cluster.under(2).await, cluster.values());
    let open = "SELECT count(*) FROM quarantine WHERE resolved_at IS NULL";
    assert_eq!(cluster.count(open).await, 0);
    for worker in old_workers {
        worker.terminate().await;
    }
}
