//! Triggers that change or refuse, servers that are gone or read-only.

use rekey_domain::Triggers;
use rekey_sources::{SourceError, TableRights, WriteOutcome, WriteTarget};
use rekey_testkit::{PrivatePostgres, services};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    fixture::{Fixture, OLD, census_of, in_a_minute, patient, read_all, ssn, target, write_to},
    postgres_fixture::{PostgresFixture, moves, patients},
};

const TOUCH: &str = "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN NEW.updated_at := 99; RETURN NEW; END'; \
    CREATE TRIGGER touch BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION touch()";

#[tokio::test]
async fn triggers_fire_or_are_suppressed_as_it_was_said() {
    let (fixture, query, updates) = patients(2).await;
    fixture.execute(TOUCH).await;
    for (index, triggers, updated_at) in [(0, Triggers::Suppress, 7), (1, Triggers::Fire, 99)] {
        let target = WriteTarget {
            triggers,
            ..target(&query)
        };
        let written = write_to(fixture.source(), &target, &updates[index..=index]).await;
        assert_eq!(written, [WriteOutcome::Written]);
        assert_eq!(fixture.patients().await[index].updated_at, updated_at);
    }
}

/// A trigger may put a value into its message; it must not travel.
#[tokio::test]
async fn a_trigger_that_refuses_is_named_without_its_words() {
    let (fixture, query, updates) = patients(3).await;
    for code in ["P0001", "ABC12"] {
        let function = format!(
            "CREATE OR REPLACE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.id = 2 THEN RAISE EXCEPTION 'no % here', NEW.name USING ERRCODE = '{code}'; END IF; \
             RETURN NEW; END $$; \
             CREATE OR REPLACE TRIGGER loud BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION loud()"
        );
        fixture.execute(&function).await;
        let deadline = in_a_minute(fixture.source()).await;
        let error = fixture
            .source()
            .write(&target(&query), &updates, deadline)
            .await;
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::Refused { .. }), "{error}");
        let message = format!("{error} {error:?}");
        assert!(
            message.contains("ctid (0,2)") && message.contains("trigger loud"),
            "{message}"
        );
        assert!(!message.contains("patient 2"), "{message}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_says_why_and_not_its_password() {
    let (fixture, query, _) = patients(1).await;
    let server = services::url(services::POSTGRES);
    let wrong = fixture.database.url_as("nobody_at_all", "s3cret");
    let nowhere = "postgres://postgres:s3cret@127.0.0.1:1/clinic".to_owned();
    let none = format!("{}/no_such_database", server.rsplit_once('/').unwrap().0);
    for (url, says, retryable) in [
        (wrong, "login was refused", true),
        (nowhere, "out of reach", true),
        (none, "no such database", true),
        (
            "postgres://s3cret@[::1/x".to_owned(),
            "cannot be read",
            false,
        ),
    ] {
        let error = rekey_sources::open(&url).await.map(drop).unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(
            message.contains(says) && !message.contains("s3cret"),
            "{message}"
        );
        assert_eq!(error.is_retryable(), retryable, "{message}");
    }

    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = 'rekey' AND datname = current_database()";
    fixture.execute(terminate).await;
    assert_eq!(
        fixture
            .source()
            .read(&query, None, 1 << 20)
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
    let mut server = PgConnection::connect(&server).await.unwrap();
    let name = fixture.database.name();
    let closed = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    sqlx::query(AssertSqlSafe(closed))
        .execute(&mut server)
        .await
        .unwrap();
    sqlx::query(AssertSqlSafe(
        terminate.replace("current_database()", &format!("'{name}'")),
    ))
    .execute(&mut server)
    .await
    .unwrap();
    assert!(fixture.source().read(&query, None, 1).await.is_err());
    let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    sqlx::query(AssertSqlSafe(open))
        .execute(&mut server)
        .await
        .unwrap();
    assert_eq!(
        fixture
            .source()
            .read(&query, None, 1 << 20)
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
}

/// As on a standby, and on a primary that was stepped down.
#[tokio::test]
async fn a_database_that_takes_no_writes_is_told_from_one_that_refuses_them() {
    let (fixture, query, updates) = patients(1).await;
    let name = fixture.database.name();
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    fixture.execute(&read_only).await;
    let source = rekey_sources::open(&fixture.database.url()).await.unwrap();
    let deadline = in_a_minute(&source).await;
    let error = source.write(&target(&query), &updates, deadline).await;
    let error = error.unwrap_err();
    assert!(matches!(error, SourceError::Standby { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_neither_planned_nor_counted_nor_written() {
    let mut server = PrivatePostgres::start().unwrap();
    let fixture = PostgresFixture::at(&server.url()).await;
    fixture.insert(&[patient(1, OLD)]).await;
    let (query, updates) = moves(fixture.source()).await;
    server.become_standby().unwrap();
    let source = rekey_sources::open(&fixture.database.url()).await.unwrap();
    assert_eq!(read_all(&source, &query).await.len(), 1);
    let deadline = in_a_minute(&source).await;
    for done in [
        source.parts("patients").await.map(drop),
        census_of(&source, "patients", &ssn()).await.map(drop),
        source
            .write(&target(&query), &updates, deadline)
            .await
            .map(drop),
    ] {
        let error = done.unwrap_err();
        assert!(matches!(error, SourceError::Standby { .. }), "{error}");
        assert!(error.is_retryable());
    }
}

/// Between reading and writing a partition may be dropped.
#[tokio::test]
async fn a_part_that_is_dropped_under_our_hands_is_changed_and_not_missing() {
    let (fixture, query, updates) = patients(1).await;
    fixture
        .execute("CREATE TABLE other (LIKE patients); ALTER TABLE patients INHERIT other")
        .await;
    let target = WriteTarget {
        relation: "other".to_owned(),
        ..target(&query)
    };
    fixture.execute("DROP TABLE patients").await;
    let deadline = in_a_minute(fixture.source()).await;
    let error = fixture.source().write(&target, &updates, deadline).await;
    let error = error.unwrap_err();
    assert!(matches!(error, SourceError::PartChanged { .. }), "{error}");
}

/// As while it is put back from a copy, or kept from everyone for a while: it comes again.
#[tokio::test]
async fn a_database_that_takes_no_connections_or_no_writes_is_away_and_says_which() {
    let fixture = PostgresFixture::new().await;
    let name = fixture.database.name();
    let url = fixture.database.url();
    let mut server = PgConnection::connect(&services::url(services::POSTGRES))
        .await
        .unwrap();
    let run = async |server: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(server)
            .await
            .unwrap();
    };
    let opened = async || rekey_sources::open(&url).await.map(drop);
    let allow = |may| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {may}");
    run(&mut server, allow(false)).await;
    let error = opened().await.unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("takes no connections"),
        "{error}"
    );
    run(&mut server, allow(true)).await;
    opened().await.unwrap();
    run(
        &mut server,
        format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    )
    .await;
    let source = rekey_sources::open(&url).await.unwrap();
    let needed = |written: &[&str]| TableRights {
        relation: "patients".to_owned(),
        read: vec!["ssn".to_owned()],
        written: written.iter().map(|name| (*name).to_owned()).collect(),
        triggers: Triggers::Fire,
    };
    source.check_rights(&needed(&[])).await.unwrap();
    let error = source.check_rights(&needed(&["ssn"])).await.unwrap_err();
    assert!(
        error.to_string().contains("default_transaction_read_only"),
        "{error}"
    );
}
