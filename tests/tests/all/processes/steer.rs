//! Limits that only PostgreSQL has, kept by workers with no more rights than granted.

use rekey_domain::RotationState;
use rekey_operations::RotationView;
use rekey_testkit::PrivatePostgres;
use sqlx::PgPool;

use rekey_tests::{
    cluster::{Cluster, Messages, Policy, Servers},
    support::until,
};

fn local() -> Policy {
    Policy {
        messages: Messages::Local,
        ..Policy::default()
    }
}

async fn waits(cluster: &Cluster) -> RotationView {
    until("a rotation that waits", async || {
        let view = cluster.rotation().await?;
        assert_eq!(view.paused_because, None);
        let why = view.waiting.first()?;
        // Workers that have just been started are no reason, nor what they have not reached yet.
        let of_workers = why.starts_with("no ") || why.starts_with("the worker at ");
        (!of_workers).then_some(view)
    })
    .await
}

async fn execute(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn is_so(pool: &PgPool, sql: &'static str) -> Option<()> {
    let so: bool = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    so.then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_a_standby_that_lags_and_goes_on_when_it_has_caught_up() {
    const LAGS: &str = "SELECT coalesce(max(replay_lag) > '1 s', false) FROM pg_stat_replication";
    let primary = PrivatePostgres::start().unwrap();
    let standby = primary.follow().unwrap();
    let servers = Servers {
        source: primary.url(),
        ..Servers::shared()
    };
    let cluster = Cluster::on(servers, 400, local()).await;
    cluster.limit("max_replica_lag = \"1s\"").await;
    let seen = PgPool::connect_lazy(&primary.url()).unwrap();
    standby.pause_replay().unwrap();
    until("a standby that lags", async || {
        execute(&cluster.source, "UPDATE visits SET uuid = uuid").await;
        is_so(&seen, LAGS).await
    })
    .await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = waits(&cluster).await;
    let why = &view.waiting[0];
    assert!(why.starts_with("replica lag "), "{why}");
    assert!(why.ends_with(" s of 1 s allowed at clinic"), "{why}");
    assert_eq!(view.moved, 0);
    let shown = cluster.rekey(&["rotations", "show", &view.id.to_string()]);
    assert!(
        shown.contains("waiting") && shown.contains("replica lag "),
        "{shown}"
    );
    let status = cluster.rekey(&["status"]);
    assert!(status.contains("waits: replica lag "), "{status}");

    standby.resume_replay().unwrap();
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    drop(workers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_a_vacuum_where_a_table_has_too_many_dead_tuples() {
    const DEAD: &str =
        "SELECT n_dead_tup > 300 FROM pg_stat_user_tables WHERE relname = 'patients'";
    let cluster = Cluster::of(400, local()).await;
    cluster.limit("max_dead_tuples = 300").await;
    // A transaction that still sees them keeps every dead tuple.
    let mut old = cluster
        .source
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    sqlx::query("SELECT FROM patients LIMIT 1")
        .execute(&mut *old)
        .await
        .unwrap();
    execute(
        &cluster.source,
        "ALTER TABLE visits SET (autovacuum_enabled = false)",
    )
    .await;
    execute(
        &cluster.source,
        "UPDATE patients SET updated_at = updated_at",
    )
    .await;
    until("dead tuples", async || is_so(&cluster.source, DEAD).await).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = waits(&cluster).await;
    let why = &view.waiting[0];
    assert!(
        why.ends_with(" dead tuples of 300 allowed at clinic.patients"),
        "{why}"
    );
    old.commit().await.unwrap();
    until("the end, with vacuums", async || {
        execute(&cluster.source, "VACUUM patients").await;
        let view = cluster.rotation().await?;
        (view.state == RotationState::Completed).then_some(())
    })
    .await;
    cluster.assert_rotated_once().await;
    drop(workers);
}
