//! PostgreSQL over TLS, vouched for by an authority that the system does not know.

use std::time::Duration;

use rekey_sources::SourceError;
use rekey_testkit::{PrivatePostgres, tls::Authority};

use super::postgres_fixture::PostgresFixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_the_authority_that_the_url_names_and_by_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = PrivatePostgres::start().unwrap();
    server.secure(&authority.vouch_for("localhost")).unwrap();
    let fixture = PostgresFixture::at(&server.url()).await;
    let url = fixture.database.url().replace("127.0.0.1", "localhost");
    let url = format!("{url}?sslmode=verify-full");
    let trusting =
        |authority: &Authority| format!("{url}&sslrootcert={}", authority.file().display());
    let trusted = trusting(&authority);

    let by_another_name = trusted.replace("localhost", "127.0.0.1");
    for refused in [url.clone(), trusting(&other), by_another_name] {
        let error = rekey_sources::open(&refused).await.map(drop).unwrap_err();
        assert!(matches!(error, SourceError::OutOfReach { .. }), "{error}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
    let source = rekey_sources::open(&trusted).await.unwrap();
    source.deadline(Duration::ZERO).await.unwrap();
    let secure = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                  WHERE ssl AND application_name = 'rekey' AND datname = current_database()";
    let secure = sqlx::query_scalar(secure).fetch_one(&fixture.application);
    let secure: i64 = secure.await.unwrap();
    assert_eq!(secure, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_it_was_asked_for() {
    let server = PrivatePostgres::start().unwrap();
    let fixture = PostgresFixture::at(&server.url()).await;
    let url = format!("{}?sslmode=require", fixture.database.url());
    let error = rekey_sources::open(&url).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("sslmode"), "{error}");
}
