//! What only SQLite has: rowids and their names, triggers, replaced files; and how fast it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use rekey_domain::{Found, Part, Range, TextEncoding};
use rekey_sources::{RowKey, StoredValue};
use sqlx::AssertSqlSafe;

use super::{
    fixture::{
        Fixture, NEW, OLD, Patient, ReadColumnExt, census_of, ciphertext, id, only_part, patient,
        read_all, ssn, swap, target, whole, whole_of, write, write_to,
    },
    sqlite_fixture::SqliteFixture,
};

#[tokio::test]
async fn a_hidden_rowid_is_called_by_another_name() {
    let fixture = SqliteFixture::new("delete").await;
    fixture
        .execute("CREATE TABLE hides (RowId TEXT, _rowid_ TEXT, ssn BLOB)")
        .await;
    fixture
        .execute("INSERT INTO hides (oid, RowId, ssn) VALUES (42, 'x', x'01aa')")
        .await;
    let source = fixture.source();
    let mut query = whole_of(source, "main.hides", vec![ssn()]).await;
    let (first, last) = (42, 42);
    assert_eq!(query.range, Range { first, last });
    query.bind_columns.clear();
    let rows = read_all(source, &query).await;
    assert_eq!(rows[0].key, RowKey::RowId(42));
    assert_eq!(rows[0].key.to_string(), "rowid 42");
}

#[tokio::test]
async fn a_shape_says_what_columns_can_hold() {
    let fixture = SqliteFixture::new("delete").await;
    fixture
        .execute(
            "CREATE TABLE visits (b, a INTEGER NOT NULL, day DATE, note VARCHAR(9), \
             calm AS (a + 1), PRIMARY KEY (note, a))",
        )
        .await;
    let shape = fixture.source().describe("main.visits").await.unwrap();
    assert_eq!(shape.primary_key, ["note", "a"]);
    let holds: Vec<_> = shape
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.encoding, c.can_bind(), c.not_null))
        .collect();
    let expected = [
        ("b", Some(TextEncoding::Binary), false, false),
        ("a", None, true, true),
        ("day", None, false, false),
        ("note", Some(TextEncoding::Base64), true, false),
        ("calm", None, false, false),
    ];
    assert_eq!(holds, expected);
    assert_eq!(shape.columns[3].declared_type, "VARCHAR(9)");
}

#[tokio::test]
async fn triggers_of_updates_are_listed() {
    let fixture = SqliteFixture::new("delete").await;
    for trigger in [
        "touch AFTER UPDATE ON patients BEGIN UPDATE patients SET updated_at = 0; END",
        "also BEFORE UPDATE OF ssn ON PATIENTS BEGIN SELECT 1; END",
        "fresh AFTER INSERT ON patients BEGIN UPDATE patients SET updated_at = 0; END",
    ] {
        fixture.execute(&format!("CREATE TRIGGER {trigger}")).await;
    }
    let shape = fixture.source().describe("patients").await.unwrap();
    assert_eq!(shape.update_triggers, ["also", "touch"]);
}

#[tokio::test]
async fn a_replaced_file_is_opened_anew() {
    let fixture = SqliteFixture::new("delete").await;
    fixture.insert(&[patient(1, OLD)]).await;
    let restored = fixture.directory.path().join("restored.db");
    let vacuum = format!("VACUUM INTO '{}'", restored.display());
    fixture.execute(&vacuum).await;
    fixture.insert(&[patient(2, OLD)]).await;
    let end = async || only_part(fixture.source(), "patients").await.end;
    assert_eq!(end().await, Some(2));
    std::fs::rename(restored, fixture.path()).unwrap();
    assert_eq!(end().await, Some(1));
}

/// `rowid` is a row's id to one statement, and a column full of NULL to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_hides_the_rowid_hides_no_row() {
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        let patients: Vec<_> = (1..=20).map(|id| patient(id, OLD)).collect();
        fixture.insert(&patients).await;
        let over = Arc::new(AtomicBool::new(false));
        let toggling = tokio::spawn({
            let (application, over) = (fixture.application.clone(), over.clone());
            async move {
                while !over.load(Ordering::Relaxed) {
                    for change in ["ADD COLUMN rowid INT", "DROP COLUMN rowid"] {
                        let alter = format!("ALTER TABLE patients {change}");
                        // It waits for a census in vain, or changes what was changed before.
                        let _ = sqlx::query(AssertSqlSafe(alter))
                            .execute(&application)
                            .await;
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        for _ in 0..150 {
            let columns = [ssn().to_count()];
            match fixture.source().census("patients", &columns, None).await {
                Ok(counted) => assert_eq!(counted[0][0].values, 20),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            match fixture.source().parts("patients").await {
                Ok(parts) => assert_eq!(parts[0].end, Some(20)),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
        over.store(true, Ordering::Relaxed);
        toggling.await.unwrap();
    }
}

#[tokio::test]
async fn the_journal_mode_stays_as_it_is() {
    for journal in ["delete", "wal", "truncate"] {
        let fixture = SqliteFixture::new(journal).await;
        fixture.insert(&[patient(1, OLD)]).await;
        let query = whole(fixture.source(), vec![ssn()]).await;
        let rows = read_all(fixture.source(), &query).await;
        let new = StoredValue::Bytes(ciphertext(NEW, 1, 60));
        write(fixture.source(), &[swap(&rows[0], &ssn(), new)]).await;
        let mode = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&fixture.application);
        let mode: String = mode.await.unwrap();
        assert_eq!(mode, journal);
    }
}

/// `cargo test -p rekey-sources -- --ignored --nocapture rows_a_second`
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement is for people")]
async fn rows_a_second() {
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        let row = |id| Patient {
            ssn: Some(ciphertext(OLD, id as u64, 300)),
            ..patient(id, OLD)
        };
        fixture
            .insert(&(1..=50_000).map(row).collect::<Vec<_>>())
            .await;
        let started = Instant::now();
        let (mut after, mut moved) = (None, 0);
        let part = only_part(fixture.source(), "patients").await;
        while let Some(range) = next(&fixture, &part, after).await {
            moved += move_range(&fixture, range).await;
            after = Some(range.last);
        }
        let seconds = started.elapsed().as_secs_f64();
        let rate = moved as f64 / seconds;
        eprintln!("{journal}: {moved} rows in {seconds:.2} s, {rate:.0} rows/s");
    }
}

async fn next(fixture: &SqliteFixture, part: &Part, after: Option<i64>) -> Option<Range> {
    let source = fixture.source();
    let range = source.next_range("patients", part, after, 2000).await;
    range.unwrap()
}

async fn move_range(fixture: &SqliteFixture, range: Range) -> usize {
    let source = fixture.source();
    let mut query = whole(source, vec![ssn()]).await;
    query.range = range;
    let page = source.read(&query, None, 64 << 20).await.unwrap();
    let update = |row| {
        let new = ciphertext(NEW, id(row) as u64, 300);
        swap(row, &ssn(), StoredValue::Bytes(new))
    };
    let updates: Vec<_> = page.rows.iter().map(update).collect();
    let written = write_to(source, &target(&query), &updates).await;
    assert!(read_all(source, &query).await.is_empty());
    written.len()
}

/// A row that takes another rowid while it is counted is counted once, in every journal mode.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_census_is_of_one_moment_in_every_journal_mode() {
    for journal in ["delete", "truncate", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        let value = fixture.literal(&ciphertext(OLD, 1, 60));
        let fill = format!(
            "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 45000)
             INSERT INTO patients SELECT id, 'x', {value}, NULL, 7 FROM n"
        );
        fixture.execute(&fill).await;
        let counting = async {
            for _ in 0..8 {
                let counted = census_of(fixture.source(), "patients", &ssn()).await;
                assert_eq!(counted.unwrap(), [(Found::Key(OLD), 45_000)], "{journal}");
            }
        };
        let moving = async {
            loop {
                for (from, to) in [(1, 100_000), (100_000, 1)] {
                    let moved = format!("UPDATE patients SET id = {to} WHERE id = {from}");
                    fixture.execute(&moved).await;
                }
            }
        };
        tokio::select! {
            () = counting => {}
            () = moving => unreachable!("it never ends"),
        }
    }
}
