//! What keeps one alert from being raised keeps no other: whoever writes signs of life silences nothing.

use rekey_domain::AlertKind;
use rekey_operations::alert_views;
use rekey_tests::support::{Deployment, Engine, operator, until};

/// Whoever may write there says that he lacks these things.
async fn lacks(clinic: &Deployment, things: &str) {
    let beat = format!(
        "INSERT OR REPLACE INTO heartbeat (id, worker, place, started_at, seen_at, lacks, misses) VALUES \
            (x'00000000000000000000000000000001', 'rotator', 'elsewhere', 0, \
            CAST(unixepoch('subsec') * 1000 AS INTEGER), 'much', '{things}')"
    );
    clinic.in_store(sqlx::AssertSqlSafe(beat)).await;
}

/// Waits for an alert while he says so; gives the subjects of all of its kind.
async fn told(clinic: &Deployment, kind: AlertKind, things: &str) -> Vec<String> {
    until("the alert", async || {
        lacks(clinic, things).await;
        let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
        let of_kind = alerts.into_iter().filter(|alert| alert.kind == kind);
        let subjects: Vec<_> = of_kind.map(|alert| alert.subject).collect();
        (!subjects.is_empty()).then_some(subjects)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_sources_that_there_are_are_told_to_be_away() {
    let clinic = Deployment::of(0).await;
    let engine = Engine::start(&clinic.services);
    let long = "x".repeat(5_000);
    let things = format!("source/nobody source/clinic source/{long} {long}");
    let away = told(&clinic, AlertKind::SourceAway, &things).await;
    engine.stop().await;
    assert_eq!(away, ["clinic"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_cannot_be_written_keeps_no_other_from_being_raised() {
    let clinic = Deployment::of(0).await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON alert WHEN NEW.kind = 'SOURCE_AWAY' \
        BEGIN SELECT RAISE(ABORT, 'index row size exceeds btree maximum'); END";
    clinic.in_store(refuse).await;
    let mut engine = Engine::default();
    engine.scheduler(&clinic.services);
    // Told after a minute, and the other after half of one.
    let silent = told(&clinic, AlertKind::WorkerSilent, "source/clinic").await;
    engine.stop().await;
    assert!(silent.contains(&"re-encryptor".to_owned()), "{silent:?}");
}
