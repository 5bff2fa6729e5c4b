//! Files that are gone, locked, read-only or no database, and tables without rowids.

use rekey_domain::Triggers;
use rekey_sources::{RowUpdate, SourceError, StoredValue, TableRights};

use super::{
    fixture::{
        Fixture, NEW, OLD, ciphertext, in_a_minute, only_part, patient, read_all, ssn, swap,
        target_of, whole, write,
    },
    sqlite_fixture::SqliteFixture,
};

async fn open_error(url: &str) -> SourceError {
    let opened = rekey_sources::open(url).await;
    opened.map(drop).unwrap_err()
}

async fn update(fixture: &SqliteFixture) -> RowUpdate {
    fixture.insert(&[patient(1, OLD)]).await;
    let query = whole(fixture.source(), vec![ssn()]).await;
    let rows = read_all(fixture.source(), &query).await;
    swap(&rows[0], &ssn(), StoredValue::Bytes(ciphertext(NEW, 1, 60)))
}

async fn write_error(fixture: &SqliteFixture, update: RowUpdate) -> SourceError {
    let deadline = in_a_minute(fixture.source()).await;
    let source = fixture.source();
    let target = target_of("patients", only_part(source, "patients").await.id);
    let written = source.write(&target, &[update], deadline).await;
    written.unwrap_err()
}

#[tokio::test]
async fn a_url_nobody_can_open_is_refused() {
    for url in [
        "mysql://root:s3cret@db/clinic",
        "s3cret",
        "",
        "C:\\s3cret.db",
    ] {
        let error = open_error(url).await;
        assert!(matches!(error, SourceError::UnknownScheme { .. }), "{url}");
        assert!(!error.to_string().contains("s3cret") && !error.is_retryable());
    }
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite:a.db?mode=memory",
        "sqlite:a.db?x=y",
        "sqlite:a.db?immutable=1",
        "sqlite:a.db?%69mmutable=1",
        "sqlite:a.db?mode=ro&vfs=unix-none",
        "sqlite:a.db?cache=shared",
        "sqlite:a.db?nolock=1",
        "sqlite:file:a.db%3Fimmutable=1",
    ] {
        let error = open_error(url).await;
        assert!(
            matches!(error, SourceError::BadUrl { .. }),
            "{url}: {error}"
        );
    }
}

#[tokio::test]
async fn a_missing_file_is_out_of_reach_and_not_created() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("none.db");
    for parameters in ["", "?mode=rw", "?mode=rwc"] {
        let url = format!("sqlite://{}{parameters}", path.display());
        let error = open_error(&url).await;
        assert!(matches!(error, SourceError::OutOfReach { .. }), "{error}");
        assert!(error.is_retryable() && error.to_string().contains("none.db"));
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_file_that_goes_is_out_of_reach_until_it_is_back() {
    let fixture = SqliteFixture::new("delete").await;
    fixture.insert(&[patient(1, OLD)]).await;
    let away = fixture.directory.path().join("away.db");
    std::fs::rename(fixture.path(), &away).unwrap();
    let error = fixture.source().describe("patients").await.unwrap_err();
    assert!(matches!(error, SourceError::OutOfReach { .. }), "{error}");
    std::fs::rename(away, fixture.path()).unwrap();
    assert!(fixture.source().describe("patients").await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("letter.db");
    std::fs::write(&path, "Dear Dr. Brown, ".repeat(300)).unwrap();
    let error = open_error(&format!("sqlite://{}", path.display())).await;
    assert!(
        error.to_string().contains("not a SQLite database"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_read_only_source_is_read_but_not_written() {
    let mut fixture = SqliteFixture::new("delete").await;
    fixture.reopen("?mode=ro").await;
    let update = update(&fixture).await;
    let error = write_error(&fixture, update).await;
    assert!(matches!(error, SourceError::ReadOnly { .. }), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(fixture.patients().await, [patient(1, OLD)]);
}

#[tokio::test]
async fn whether_a_file_may_be_written_is_found_before_it_is_needed() {
    for journal in ["delete", "wal"] {
        let mut fixture = SqliteFixture::new(journal).await;
        fixture.insert(&[patient(1, OLD)]).await;
        let needed = TableRights {
            relation: "patients".to_owned(),
            read: vec!["id".to_owned(), "ssn".to_owned()],
            written: vec!["ssn".to_owned()],
            triggers: Triggers::Fire,
        };
        let counts = TableRights {
            written: Vec::new(),
            ..needed.clone()
        };
        fixture.source().check_rights(&needed).await.unwrap();
        let lock = fixture.application.begin_with("BEGIN IMMEDIATE").await;
        let lock = lock.unwrap();
        // Who writes for long takes no right away.
        fixture.source().check_rights(&needed).await.unwrap();
        lock.rollback().await.unwrap();
        fixture.reopen("?mode=ro").await;
        fixture.source().check_rights(&counts).await.unwrap();
        let error = fixture.source().check_rights(&needed).await.unwrap_err();
        assert!(matches!(error, SourceError::ReadOnly { .. }), "{error}");
        assert_eq!(fixture.patients().await, [patient(1, OLD)]);
    }
}

#[tokio::test]
async fn a_lock_held_for_long_is_busy() {
    let fixture = SqliteFixture::new("wal").await;
    let update = update(&fixture).await;
    let lock = fixture.application.begin_with("BEGIN IMMEDIATE").await;
    let error = write_error(&fixture, update.clone()).await;
    assert!(matches!(error, SourceError::Busy { .. }), "{error}");
    assert!(error.is_retryable());
    lock.unwrap().rollback().await.unwrap();
    write(fixture.source(), &[update]).await;
}

#[tokio::test]
async fn a_table_without_rowids_says_what_to_do() {
    let fixture = SqliteFixture::new("delete").await;
    for (table, columns, advice) in [
        (
            "bare",
            "(id TEXT PRIMARY KEY, ssn BLOB) WITHOUT ROWID",
            "WITHOUT ROWID",
        ),
        ("hidden", "(rowid, _ROWID_, oid, ssn BLOB)", "rename one"),
    ] {
        fixture
            .execute(&format!("CREATE TABLE {table} {columns}"))
            .await;
        let error = fixture.source().describe(table).await.unwrap_err();
        assert!(matches!(error, SourceError::NoRowId { .. }));
        let message = error.to_string();
        assert!(
            message.contains(advice) && message.contains(table),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_is_no_table_is_named() {
    let fixture = SqliteFixture::new("delete").await;
    fixture
        .execute("CREATE VIRTUAL TABLE search USING fts5(words)")
        .await;
    for (relation, kind) in [
        ("search", "a virtual table"),
        ("search_data", "a shadow table"),
        ("sqlite_master", "a table of SQLite's own"),
    ] {
        let error = fixture.source().describe(relation).await.unwrap_err();
        assert!(matches!(error, SourceError::NotATable { .. }), "{relation}");
        assert!(error.to_string().contains(kind), "{error}");
    }
}

/// A trigger may put a value into its message; it must not travel.
#[tokio::test]
async fn a_trigger_that_refuses_is_named_without_its_words() {
    let fixture = SqliteFixture::new("delete").await;
    let update = update(&fixture).await;
    fixture
        .execute(
            "CREATE TRIGGER loud BEFORE UPDATE ON patients \
             BEGIN SELECT RAISE(ABORT, 'no such table: ' || OLD.name); END",
        )
        .await;
    let error = write_error(&fixture, update).await;
    assert!(matches!(error, SourceError::Refused { .. }));
    let message = error.to_string();
    assert!(message.contains("rowid 1") && message.contains("trigger loud"));
    assert!(
        !format!("{message} {error:?}").contains("patient 1"),
        "{message}"
    );
}

/// A virtual table that a trigger asks takes what it is given for a query, and says what it does not find.
#[tokio::test]
async fn what_a_virtual_table_says_does_not_travel() {
    let fixture = SqliteFixture::new("delete").await;
    let update = update(&fixture).await;
    for sql in [
        "CREATE VIRTUAL TABLE search USING fts5(text)",
        "UPDATE patients SET name = 'Canary98'",
        "CREATE TRIGGER asks BEFORE UPDATE OF ssn ON patients \
         BEGIN DELETE FROM search WHERE search MATCH (OLD.name || ':x'); END",
    ] {
        fixture.execute(sql).await;
    }
    let error = write_error(&fixture, update).await;
    let said = format!("{error} {error:?}");
    assert!(said.contains("a column that is not there"), "{said}");
    assert!(!said.contains("Canary"), "{said}");
}
