//! Locks, triggers and rights on PostgreSQL: the application always comes first.

use std::{sync::Arc, time::Duration};

use rekey_domain::Triggers;
use rekey_sources::{
    ReadQuery, RowUpdate, Source, SourceError, StoredValue, WriteOutcome, WriteTarget,
};
use rekey_testkit::services;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    fixture::{
        Fixture, NEW, OLD, base64, census_of, ciphertext, id, in_a_minute, notes, patient,
        read_all, ssn, swap, target, whole, write_to,
    },
    postgres_fixture::PostgresFixture,
};

async fn patients(rows: i64) -> (PostgresFixture, ReadQuery, Vec<RowUpdate>) {
    let fixture = PostgresFixture::new().await;
    let patients: Vec<_> = (1..=rows).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let (query, updates) = moves(fixture.source()).await;
    (fixture, query, updates)
}

/// The updates that are left to do.
async fn moves(source: &Arc<dyn Source>) -> (ReadQuery, Vec<RowUpdate>) {
    let query = whole(source, vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    let new = |row| StoredValue::Bytes(ciphertext(NEW, id(row) as u64, 60));
    let updates = rows.iter().map(|row| swap(row, &ssn(), new(row)));
    (query, updates.collect())
}

#[tokio::test]
async fn a_locked_row_is_skipped_and_written_later() {
    let (fixture, query, updates) = patients(700).await;
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("UPDATE patients SET name = 'mine' WHERE id IN (3, 650)")
        .execute(&mut *application)
        .await
        .unwrap();
    let written = write_to(fixture.source(), &target(&query), &updates).await;
    for (index, outcome) in written.iter().enumerate() {
        let expected = match index + 1 {
            3 | 650 => WriteOutcome::Skipped,
            _ => WriteOutcome::Written,
        };
        assert_eq!(*outcome, expected, "patient {}", index + 1);
    }
    application.commit().await.unwrap();
    let (query, updates) = moves(fixture.source()).await;
    assert_eq!(updates.len(), 2);
    let written = write_to(fixture.source(), &target(&query), &updates).await;
    assert_eq!(written, [WriteOutcome::Written; 2]);
    let mine = fixture.patients().await;
    assert_eq!(
        (mine[2].name.as_str(), mine[649].name.as_str()),
        ("mine", "mine")
    );
}

/// A child row that the application inserts locks its parent's key, and stops nobody.
#[tokio::test]
async fn a_row_locked_by_a_foreign_key_is_written() {
    let (fixture, query, updates) = patients(3).await;
    fixture
        .execute("CREATE TABLE visits (patient BIGINT REFERENCES patients)")
        .await;
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("INSERT INTO visits VALUES (2)")
        .execute(&mut *application)
        .await
        .unwrap();
    let written = write_to(fixture.source(), &target(&query), &updates).await;
    assert_eq!(written, [WriteOutcome::Written; 3]);
    application.commit().await.unwrap();
}

/// The application locks rows from the last to the first while we go from the first to the last.
#[tokio::test]
async fn the_application_is_never_the_victim_of_a_deadlock() {
    for _ in 0..3 {
        let (fixture, query, updates) = patients(40).await;
        let mut application = fixture.application.begin().await.unwrap();
        let touch = async |application: &mut PgConnection, id: i64| {
            let update = sqlx::query("UPDATE patients SET name = 'mine' WHERE id = $1").bind(id);
            update.execute(application).await
        };
        touch(&mut application, 40).await.unwrap();
        let target_part = target(&query);
        let (_, touched) =
            tokio::join!(write_to(fixture.source(), &target_part, &updates), async {
                for id in (1..40).rev() {
                    touch(&mut application, id).await?;
                }
                application.commit().await
            });
        touched.unwrap();
        assert!(
            fixture
                .patients()
                .await
                .iter()
                .all(|patient| patient.name == "mine")
        );
        let (query, updates) = moves(fixture.source()).await;
        write_to(fixture.source(), &target(&query), &updates).await;
        assert!(moves(fixture.source()).await.1.is_empty());
    }
}

#[tokio::test]
async fn a_locked_table_is_busy_and_left_alone() {
    let (fixture, query, updates) = patients(3).await;
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("LOCK TABLE patients IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *application)
        .await
        .unwrap();
    let written = write_to(fixture.source(), &target(&query), &updates).await;
    assert_eq!(written, [WriteOutcome::Skipped; 3]);
    let error = fixture.source().read(&query, None, 1).await.unwrap_err();
    assert!(
        matches!(error, SourceError::Busy { .. }) && error.is_retryable(),
        "{error}"
    );
    application.rollback().await.unwrap();
    assert_eq!(
        fixture
            .source()
            .read(&query, None, 1 << 20)
            .await
            .unwrap()
            .rows
            .len(),
        3
    );
}

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
            message.contains("id=2") && message.contains("a trigger"),
            "{message}"
        );
        assert!(!message.contains("patient 2"), "{message}");
    }
}

/// Whether the tests' server has TLS or not: `sslmode=require` never goes on without.
#[tokio::test]
async fn a_connection_is_secure_where_it_was_asked_for() {
    let fixture = PostgresFixture::new().await;
    let has_tls: String = sqlx::query_scalar("SHOW ssl")
        .fetch_one(&fixture.application)
        .await
        .unwrap();
    let url = format!("{}?sslmode=require", fixture.database.url());
    let opened = rekey_sources::open(&url).await;
    if has_tls == "off" {
        let error = opened.map(drop).unwrap_err();
        assert!(error.to_string().contains("sslmode"), "{error}");
        return;
    }
    let source = opened.unwrap();
    source.deadline(Duration::ZERO).await.unwrap();
    let secure = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                  WHERE application_name = 'rekey' AND datname = current_database()";
    let secure = sqlx::query_scalar(secure).fetch_one(&fixture.application);
    let secure: bool = secure.await.unwrap();
    assert!(secure);
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

/// `REKEY_TEST_POSTGRES_STANDBY_URL` names a streaming standby of the tests' server.
#[tokio::test]
#[ignore = "needs a standby"]
async fn a_standby_is_neither_counted_nor_written() {
    let (fixture, query, updates) = patients(1).await;
    let standby = services::url("REKEY_TEST_POSTGRES_STANDBY_URL");
    let (server, _) = standby.rsplit_once('/').unwrap();
    let url = format!("{server}/{}", fixture.database.name());
    let mut opened = rekey_sources::open(&url).await;
    while opened.is_err() {
        tokio::task::yield_now().await;
        opened = rekey_sources::open(&url).await;
    }
    let source = opened.unwrap();
    while source.read(&query, None, 1 << 20).await.is_err() {
        tokio::task::yield_now().await;
    }
    let deadline = in_a_minute(&source).await;
    for error in [
        census_of(&source, "patients", &ssn()).await.map(drop),
        source
            .write(&target(&query), &updates, deadline)
            .await
            .map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::Standby { .. }), "{error}");
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

/// A role of the test's own, removed with it.
struct Role {
    name: String,
}

impl Role {
    async fn new(fixture: &PostgresFixture, name: &str) -> Self {
        let name = format!("{name}_{}", fixture.database.name());
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'");
        fixture.execute(&create).await;
        Self { name }
    }

    async fn remove(self, fixture: PostgresFixture) {
        let own = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        fixture.execute(&own).await;
    }
}

#[tokio::test]
async fn a_role_with_the_columns_rights_and_no_others_can_do_it_all() {
    let (fixture, _, _) = patients(40).await;
    let role = Role::new(&fixture, "exact").await;
    let grant = format!(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {0}; \
         GRANT SELECT (ctid, id, ssn), UPDATE (ssn) ON patients TO {0}",
        role.name
    );
    fixture.execute(&grant).await;
    let source = fixture.open_as(&role.name).await;
    assert_eq!(
        source.describe("patients").await.unwrap().primary_key,
        ["id"]
    );
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("SELECT FROM patients WHERE id = 7 FOR UPDATE")
        .execute(&mut *application)
        .await
        .unwrap();
    let (query, updates) = moves(&source).await;
    let written = write_to(&source, &target(&query), &updates).await;
    let skipped = written
        .iter()
        .filter(|outcome| **outcome == WriteOutcome::Skipped);
    assert_eq!(skipped.count(), 1);
    application.rollback().await.unwrap();
    let (query, updates) = moves(&source).await;
    write_to(&source, &target(&query), &updates).await;
    let census = census_of(&source, "patients", &ssn()).await.unwrap();
    assert_eq!(census, [(rekey_domain::Found::Key(NEW), 40)]);

    let error = census_of(&source, "patients", &notes()).await.unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(error, SourceError::NotAllowed { .. }) && !error.is_retryable(),
        "{message}"
    );
    assert!(
        message.contains("GRANT SELECT") && message.contains("patients"),
        "{message}"
    );
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn a_missing_right_to_write_or_to_suppress_triggers_is_named() {
    let (fixture, query, updates) = patients(1).await;
    let role = Role::new(&fixture, "reader").await;
    let grant = format!("GRANT SELECT ON patients TO {}", role.name);
    fixture.execute(&grant).await;
    let source = fixture.open_as(&role.name).await;
    for (triggers, right) in [
        (Triggers::Fire, "UPDATE ("),
        (
            Triggers::Suppress,
            "GRANT SET ON PARAMETER session_replication_role",
        ),
    ] {
        let target = WriteTarget {
            triggers,
            ..target(&query)
        };
        let error = source
            .write(&target, &updates, in_a_minute(&source).await)
            .await;
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains(right), "{error}");
    }
    let grant = format!(
        "GRANT UPDATE (ssn) ON patients TO {0}; GRANT SET ON PARAMETER session_replication_role TO {0}",
        role.name
    );
    fixture.execute(&grant).await;
    let target = WriteTarget {
        triggers: Triggers::Suppress,
        ..target(&query)
    };
    assert_eq!(
        write_to(&source, &target, &updates).await,
        [WriteOutcome::Written]
    );
    drop(source);
    let revoke = format!(
        "REVOKE SET ON PARAMETER session_replication_role FROM {}",
        role.name
    );
    fixture.execute(&revoke).await;
    role.remove(fixture).await;
}

#[tokio::test]
async fn rows_hidden_by_row_level_security_fail_loudly() {
    let (fixture, query, updates) = patients(3).await;
    let role = Role::new(&fixture, "half_blind").await;
    let hide = format!(
        "GRANT SELECT, UPDATE ON patients TO {0}; ALTER TABLE patients ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY half ON patients USING (id > 1)",
        role.name
    );
    fixture.execute(&hide).await;
    let source = fixture.open_as(&role.name).await;
    let deadline = in_a_minute(&source).await;
    let census = census_of(&source, "patients", &ssn()).await;
    for error in [
        source.describe("patients").await.map(drop),
        source.read(&query, None, 1 << 20).await.map(drop),
        source
            .write(&target(&query), &updates, deadline)
            .await
            .map(drop),
        census.map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains("BYPASSRLS"), "{error}");
    }
    fixture
        .execute(&format!("ALTER ROLE {} BYPASSRLS", role.name))
        .await;
    let source = fixture.open_as(&role.name).await;
    assert_eq!(moves(&source).await.1.len(), 3);
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_says_why_and_not_its_password() {
    let (fixture, query, _) = patients(1).await;
    let server = services::url(services::POSTGRES);
    let wrong = fixture.database.url_as("nobody_at_all", "s3cret");
    let nowhere = "postgres://postgres:s3cret@127.0.0.1:1/clinic".to_owned();
    let none = format!("{}/no_such_database", server.rsplit_once('/').unwrap().0);
    for (url, says, retryable) in [
        (wrong, "login was refused", false),
        (nowhere, "out of reach", true),
        (none, "no such database", false),
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

/// What a role or database sets for itself does not reach through our own settings.
#[tokio::test]
async fn a_roles_own_settings_do_not_change_ours() {
    let (fixture, query, updates) = patients(2).await;
    let name = fixture.database.name();
    for setting in [
        "lock_timeout = 0",
        "default_transaction_isolation = 'serializable'",
        "row_security = on",
        "enable_tidscan = on",
    ] {
        let set = format!("ALTER DATABASE {name} SET {setting}");
        fixture.execute(&set).await;
    }
    let source = rekey_sources::open(&fixture.database.url()).await.unwrap();
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("SELECT FROM patients WHERE id = 1 FOR UPDATE")
        .execute(&mut *application)
        .await
        .unwrap();
    let written = write_to(&source, &target(&query), &updates).await;
    assert_eq!(written, [WriteOutcome::Skipped, WriteOutcome::Written]);
    application.rollback().await.unwrap();
}

/// The place of a row is found by a TID scan, whatever the planner thinks of a small table; and a
/// lost row is looked at without reading the others.
#[tokio::test]
async fn two_thousand_rows_are_written_in_a_large_table_without_reading_it() {
    let (fixture, _, _) = patients(0).await;
    let insert = format!(
        "INSERT INTO patients SELECT i, 'p', '\\x{}'::bytea, '{}', 7 FROM generate_series(1, 60000) i",
        ciphertext(OLD, 1, 300)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>(),
        base64(OLD, 1)
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    let mut query = whole(source, vec![ssn()]).await;
    query.range.last = 120;
    let rows = read_all(source, &query).await;
    assert!(rows.len() > 1_500, "{}", rows.len());
    let new = StoredValue::Bytes(ciphertext(NEW, 1, 300));
    let updates: Vec<_> = rows
        .iter()
        .map(|row| swap(row, &ssn(), new.clone()))
        .collect();
    let scanned = async || -> i64 {
        let scans = "SELECT seq_tup_read FROM pg_stat_all_tables WHERE relname = 'patients'";
        sqlx::query("SELECT pg_stat_force_next_flush()")
            .execute(&fixture.application)
            .await
            .unwrap();
        sqlx::query_scalar(scans)
            .fetch_one(&fixture.application)
            .await
            .unwrap()
    };
    let before = scanned().await;
    let started = std::time::Instant::now();
    let written = write_to(source, &target(&query), &updates).await;
    assert!(
        written
            .iter()
            .all(|outcome| *outcome == WriteOutcome::Written)
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(scanned().await, before, "read the whole table");
}
