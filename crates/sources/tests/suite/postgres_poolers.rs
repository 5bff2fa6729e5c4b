//! A pooler before the source: its defaults suffice where a session is one, and else it is refused.

use std::time::{Duration, Instant};

use rekey_sources::SourceError;
use rekey_testkit::{PoolMode, Pooler};
use sqlx::{Connection, PgConnection};

use super::postgres_fixture::PostgresFixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_whose_clients_share_connections_is_refused_with_the_cure() {
    let fixture = PostgresFixture::new().await;
    for mode in [PoolMode::Transaction, PoolMode::Statement] {
        for connections in [1, 2, 20] {
            let pooler = Pooler::before(&fixture.database.url(), mode, connections).unwrap();
            // Again, when it has idle connections.
            for _ in 0..3 {
                let error = rekey_sources::open(pooler.url()).await.map(drop);
                let error = error.unwrap_err();
                let text = error.to_string();
                assert!(
                    matches!(error, SourceError::Pooled { .. }),
                    "{mode:?}: {text}"
                );
                assert!(text.contains("pool_mode = session"), "{text}");
                assert!(text.contains("at 127.0.0.1:"), "{text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_others_use_at_the_same_time_is_recognised_all_the_same() {
    let fixture = PostgresFixture::new().await;
    let url = fixture.database.url();
    let pooler = Pooler::before(&url, PoolMode::Transaction, 3).unwrap();
    let busy = async || {
        let mut other = PgConnection::connect_with(
            &pooler
                .url()
                .parse::<sqlx::postgres::PgConnectOptions>()
                .unwrap()
                .extra_float_digits(None),
        )
        .await
        .unwrap();
        loop {
            sqlx::raw_sql("SELECT 1").execute(&mut other).await.unwrap();
        }
    };
    let opening = async {
        for _ in 0..30 {
            let error = rekey_sources::open(pooler.url()).await.map(drop);
            let error = error.unwrap_err();
            assert!(matches!(error, SourceError::Pooled { .. }), "{error}");
        }
    };
    tokio::select! {
        () = busy() => {}
        () = busy() => {}
        () = opening => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_session_mode_serves_with_its_defaults() {
    let fixture = PostgresFixture::new().await;
    let pooler = Pooler::before(&fixture.database.url(), PoolMode::Session, 4).unwrap();
    for _ in 0..3 {
        let source = rekey_sources::open(pooler.url()).await.unwrap();
        source.deadline(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_pooler_in_vain_is_told_so_in_time() {
    let fixture = PostgresFixture::new().await;
    let pooler = Pooler::before(&fixture.database.url(), PoolMode::Session, 1).unwrap();
    let options: sqlx::postgres::PgConnectOptions = pooler.url().parse().unwrap();
    let options = options.extra_float_digits(None);
    let held = PgConnection::connect_with(&options).await.unwrap();
    let began = Instant::now();
    let error = rekey_sources::open(pooler.url())
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    let text = error.to_string();
    assert!(error.is_retryable(), "{text}");
    assert!(
        text.contains("127.0.0.1:") && text.contains(fixture.database.name()),
        "{text}"
    );
    assert!(
        text.contains("no connection came about within 5 s") && !text.contains(":postgres@"),
        "{text}"
    );
    held.close().await.unwrap();
}
