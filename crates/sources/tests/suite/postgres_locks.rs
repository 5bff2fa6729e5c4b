//! Locks on PostgreSQL: the application always comes first.

use rekey_sources::{SourceError, WriteOutcome};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    fixture::{Fixture, in_a_minute, target, write_to},
    postgres_fixture::{moves, patients},
};

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

/// What comes while a statement waits makes it write nothing; nobody else has written those rows.
#[tokio::test]
async fn what_is_made_in_mid_write_is_no_write_of_the_applications() {
    for made in [
        "CREATE DOMAIN age AS integer CHECK (value > 0)",
        "CREATE STATISTICS names ON name, ssn FROM patients",
    ] {
        let (fixture, query, updates) = patients(30).await;
        let mut application = fixture.application.begin().await.unwrap();
        let lock = "SELECT FROM patients WHERE id = 7 FOR UPDATE";
        sqlx::query(lock).execute(&mut *application).await.unwrap();
        let part = target(&query);
        let (written, ()) = tokio::join!(write_to(fixture.source(), &part, &updates), async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND datname = current_database()";
            while sqlx::query_scalar::<_, i64>(waits)
                .fetch_one(&fixture.application)
                .await
                .unwrap()
                == 0
            {}
            fixture.execute(made).await;
        });
        assert!(
            !written.contains(&WriteOutcome::Lost),
            "{made}: {written:?}"
        );
        application.rollback().await.unwrap();
        let written = write_to(fixture.source(), &part, &updates).await;
        assert!(
            !written.contains(&WriteOutcome::Skipped),
            "{made}: {written:?}"
        );
    }
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
async fn a_locked_table_is_busy_says_who_holds_it_and_is_left_alone() {
    let (fixture, query, updates) = patients(3).await;
    let mut application = fixture.application.begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *application)
        .await
        .unwrap();
    let is_told = |error: SourceError| {
        assert!(
            matches!(error, SourceError::Busy { .. }) && error.is_retryable(),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("a lock on") && said.contains(&format!("held by process {pid}")),
            "{said}"
        );
    };
    // The first is what CREATE INDEX takes: rows can be read, and not written.
    for mode in ["SHARE", "ACCESS EXCLUSIVE"] {
        sqlx::query(AssertSqlSafe(format!("LOCK TABLE patients IN {mode} MODE")))
            .execute(&mut *application)
            .await
            .unwrap();
        let deadline = in_a_minute(fixture.source()).await;
        let to = target(&query);
        let written = fixture.source().write(&to, &updates, deadline).await;
        is_told(written.unwrap_err());
    }
    is_told(fixture.source().read(&query, None, 1).await.unwrap_err());
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

/// Who waits for the whole table keeps newcomers out as well, and who holds a row of it holds that only.
#[tokio::test]
async fn holders_are_named_who_bars_the_table_before_who_holds_a_row() {
    let (fixture, query, _) = patients(3).await;
    let holders = async || fixture.source().holders(&query.relation).await.unwrap();
    assert_eq!(holders().await, None);
    let mut row = fixture.application.begin().await.unwrap();
    sqlx::query("SELECT FROM patients WHERE id = 2 FOR UPDATE")
        .execute(&mut *row)
        .await
        .unwrap();
    let pid = async |session: &mut PgConnection| -> i32 {
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
        pid.fetch_one(session).await.unwrap()
    };
    let of_row = format!("process {}", pid(&mut row).await);
    assert!(holders().await.unwrap().starts_with(&of_row));
    let mut table = fixture.application.acquire().await.unwrap();
    let of_table = format!("process {} ", pid(&mut table).await);
    let locks = sqlx::raw_sql("BEGIN; LOCK TABLE patients; COMMIT").execute(&mut *table);
    let waits = async {
        loop {
            if holders().await.unwrap().starts_with(&of_table) {
                row.commit().await.unwrap();
                return;
            }
        }
    };
    let (locked, ()) = tokio::join!(locks, waits);
    locked.unwrap();
    let mut prepared = fixture.application.acquire().await.unwrap();
    // Names of these are the server's.
    let gid = fixture.database.name();
    let prepare = format!("BEGIN; LOCK TABLE patients IN SHARE MODE; PREPARE TRANSACTION '{gid}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
        .execute(&mut *prepared)
        .await
        .unwrap();
    let said = holders().await.unwrap();
    assert!(
        said.starts_with(&format!("prepared transaction \"{gid}\"")),
        "{said}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("ROLLBACK PREPARED '{gid}'")))
        .execute(&mut *prepared)
        .await
        .unwrap();
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
