//! What SQLite gives again: a page where a table begins, a place in it, a name, and the number of its schema.

use rekey_domain::{Found, Part};
use rekey_sources::{CensusColumn, Measure, PassToShow, SourceError, StoredValue};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    fixture::{
        Fixture, NEW, OLD, ReadColumnExt, ciphertext, in_a_minute, only_part, patient, read_all,
        ssn, swap, target, whole,
    },
    sqlite_fixture::SqliteFixture,
};

const VISITS: &str = "CREATE TABLE visits (id INTEGER PRIMARY KEY, ssn BLOB);";
/// Another has the column's name and its place, or its table's page.
const TAKEN: [(&str, &str, &str); 3] = [
    (
        "PRAGMA auto_vacuum = FULL; VACUUM; CREATE TABLE before (a);",
        VISITS,
        "ALTER TABLE visits RENAME TO visits_old; DROP TABLE before; \
         CREATE TABLE visits (id INTEGER PRIMARY KEY, ssn BLOB);",
    ),
    (
        "CREATE TABLE before (a);",
        VISITS,
        "ALTER TABLE visits RENAME TO visits_old; DROP TABLE before; \
         CREATE TABLE visits (id INTEGER PRIMARY KEY, ssn BLOB); VACUUM;",
    ),
    (
        "",
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, junk TEXT, ssn BLOB);",
        "ALTER TABLE visits RENAME COLUMN ssn TO ssn_old; ALTER TABLE visits DROP COLUMN junk; \
         ALTER TABLE visits ADD COLUMN ssn BLOB;",
    ),
];
/// The copy with the name of the column, and back; nothing else tells one from the other.
const EXCHANGE: &str = "ALTER TABLE patients RENAME COLUMN ssn TO t; \
     ALTER TABLE patients RENAME COLUMN copy TO ssn; ALTER TABLE patients RENAME COLUMN t TO copy;";

/// By one connection: others may still have the schema of before.
async fn execute(neighbour: &mut SqliteConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(neighbour).await;
    done.unwrap();
}

async fn number(neighbour: &mut SqliteConnection, sql: &str) -> i64 {
    let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(neighbour);
    found.await.unwrap()
}

async fn root(neighbour: &mut SqliteConnection) -> i64 {
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'visits'";
    number(neighbour, root).await
}

/// Counts the column as what it was known by.
async fn counted_as(fixture: &SqliteFixture, known: &str) -> Result<u64, SourceError> {
    let pass = PassToShow {
        left: vec![Default::default()],
        known: vec![Some(known.to_owned())],
        ..PassToShow::default()
    };
    let columns = [ssn().to_count()];
    let counted = fixture.source().census("visits", &columns, Some(&pass));
    Ok(counted.await?[0].iter().map(|one| one.values).sum())
}

async fn identity(fixture: &SqliteFixture) -> String {
    let shape = fixture.source().describe("visits").await.unwrap();
    shape.identity("ssn").unwrap()
}

#[tokio::test]
async fn a_column_at_the_page_and_place_of_another_is_not_that_one() {
    for (before, visits, taken) in TAKEN {
        for put_back in [false, true] {
            let fixture = SqliteFixture::new("wal").await;
            let mut neighbour = fixture.application.acquire().await.unwrap();
            execute(&mut neighbour, &format!("{before} {visits}")).await;
            let value = fixture.literal(&ciphertext(OLD, 1, 60));
            let insert = format!("INSERT INTO visits (ssn) VALUES ({value})");
            execute(&mut neighbour, &insert).await;
            let known = identity(&fixture).await;
            assert_eq!(counted_as(&fixture, &known).await.unwrap(), 1);

            let version = number(&mut neighbour, "PRAGMA schema_version").await;
            let page = root(&mut neighbour).await;
            execute(&mut neighbour, taken).await;
            if put_back {
                execute(
                    &mut neighbour,
                    &format!("PRAGMA schema_version = {version}"),
                )
                .await;
            }
            assert_eq!(root(&mut neighbour).await, page, "{taken}");
            let refused = counted_as(&fixture, &known).await.unwrap_err();
            assert!(matches!(refused, SourceError::Replaced { .. }), "{refused}");
            // What is there is seen as it is, whatever a connection knew of it.
            let now = identity(&fixture).await;
            assert_eq!(counted_as(&fixture, &now).await.unwrap(), 0, "{taken}");
            let candidates = fixture.source().candidates().await.unwrap();
            let mut names = candidates
                .iter()
                .flat_map(|one| one.columns.iter().map(|column| (&one.relation, column)));
            let old = |(relation, column): (&String, &CensusColumn)| {
                relation == "visits_old" || column.name == "ssn_old"
            };
            assert!(names.any(old), "{candidates:?}");
        }
    }
}

#[tokio::test]
async fn a_column_is_known_while_nobody_changes_the_schema() {
    for journal in ["delete", "wal"] {
        let fixture = SqliteFixture::new(journal).await;
        fixture.execute(VISITS).await;
        let known = identity(&fixture).await;
        for sql in [
            "INSERT INTO visits (ssn) VALUES (x'01')",
            "CREATE TEMP TABLE other (a)",
        ] {
            fixture.execute(sql).await;
        }
        assert_eq!(identity(&fixture).await, known);
        fixture.execute("CREATE TABLE other (a)").await;
        assert_ne!(identity(&fixture).await, known);
    }
}

/// Patients whose `copy` holds what their `ssn` holds.
async fn with_copies() -> SqliteFixture {
    let fixture = SqliteFixture::new("wal").await;
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    fixture
        .execute("ALTER TABLE patients ADD COLUMN copy BLOB; UPDATE patients SET copy = ssn")
        .await;
    fixture
}

async fn read_error(fixture: &SqliteFixture, part: &Part) -> Option<SourceError> {
    let mut query = whole(fixture.source(), vec![ssn()]).await;
    query.part = part.id.clone();
    fixture.source().read(&query, None, 1 << 20).await.err()
}

#[tokio::test]
async fn a_page_is_of_the_columns_that_the_part_had_when_it_was_planned() {
    let fixture = with_copies().await;
    let part = only_part(fixture.source(), "patients").await;
    assert!(read_error(&fixture, &part).await.is_none());
    // While they are exchanged, and when they are back: what was read between is of neither.
    for _ in 0..2 {
        fixture.execute(EXCHANGE).await;
        let refused = read_error(&fixture, &part).await.unwrap();
        let changed = matches!(refused, SourceError::PartChanged { .. });
        assert!(changed, "{refused}");
    }
    let part = only_part(fixture.source(), "patients").await;
    assert!(read_error(&fixture, &part).await.is_none());
}

#[tokio::test]
async fn nothing_is_written_into_a_column_that_took_the_name() {
    let fixture = with_copies().await;
    let source = fixture.source();
    let query = whole(source, vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    fixture.execute(EXCHANGE).await;
    let before = fixture.patients().await;
    let new = StoredValue::Bytes(ciphertext(NEW, 1, 60));
    let updates = [swap(&rows[0], &ssn(), new)];
    let deadline = in_a_minute(source).await;
    let refused = source.write(&target(&query), &updates, deadline).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, SourceError::PartChanged { .. }),
        "{refused}"
    );
    assert_eq!(fixture.patients().await, before);
}

/// Rows `1..=20` of `patients`, which an index on `ssn` lacks; statistics make it look cheap.
async fn with_a_damaged_index(condition: &str) -> SqliteFixture {
    let mut fixture = SqliteFixture::new("wal").await;
    let index = format!("CREATE INDEX by_ssn ON patients (ssn) {condition}");
    let mut neighbour = fixture.application.acquire().await.unwrap();
    execute(
        &mut neighbour,
        &format!(
            "{index}; CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'by_ssn'; \
             PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'by_ssn'; \
             PRAGMA writable_schema = RESET"
        ),
    )
    .await;
    drop(neighbour);
    let application = fixture.application.clone();
    fixture.reopen("").await;
    application.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(fixture.path());
    fixture.application = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let patients: Vec<_> = (1..=20).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let mut neighbour = fixture.application.acquire().await.unwrap();
    execute(
        &mut neighbour,
        "ANALYZE; DELETE FROM sqlite_stat1; \
         INSERT INTO sqlite_stat1 VALUES ('patients', NULL, '1000000'), ('patients', 'by_ssn', '1 1'); \
         PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; \
         PRAGMA writable_schema = RESET; DROP TABLE kept",
    )
    .await;
    drop(neighbour);
    fixture.reopen("").await;
    fixture
}

/// An index that somebody damaged, or that a bug left so, does not say what rows there are.
#[tokio::test]
async fn rows_that_an_index_lacks_are_seen() {
    for condition in ["", "WHERE ssn IS NOT NULL"] {
        let fixture = with_a_damaged_index(condition).await;
        let source = fixture.source();
        let columns = [ssn().to_count()];
        let rows = Some(20);
        assert_eq!(only_part(source, "patients").await.end, rows);
        let query = whole(source, vec![ssn()]).await;
        assert_eq!(query.range.last, 20);
        assert_eq!(read_all(source, &query).await.len(), 20);
        let all = [(Found::Key(OLD), 20)];
        let pass = super::passes::pass_over(source).await;
        let pass = PassToShow {
            left: pass.left[..1].to_vec(),
            ..pass
        };
        let counted = source.census("patients", &columns, Some(&pass)).await;
        let counted = &counted.unwrap()[0];
        assert_eq!(super::fixture::found(counted.clone()), all, "{condition}");
        assert_eq!(counted[0].left, 20, "{condition}");
        let sample = source.sample("patients", &columns, 1_000).await.unwrap();
        assert_eq!((sample.rows, &sample.counts[0][..]), (20, &all[..]));
        let measured = source.measure("patients", &columns, Measure::Count).await;
        let measured = measured.unwrap();
        assert_eq!((measured.rows, measured.columns[0].values), (20, 20));
    }
}

/// One flipped bit: SQLite reads all rows, and by rowid only those before it.
#[tokio::test]
async fn rows_behind_a_rowid_that_is_out_of_order_are_missed_by_nobody_unnoticed() {
    let mut fixture = SqliteFixture::new("delete").await;
    fixture
        .execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, ssn BLOB)")
        .await;
    for id in 1..=9 {
        let sealed = ciphertext(OLD, id, 8);
        let insert = sqlx::query("INSERT INTO visits (ssn) VALUES (?)").bind(sealed);
        insert.execute(&fixture.application).await.unwrap();
    }
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'visits'";
    let root: i64 = sqlx::query_scalar(root)
        .fetch_one(&fixture.application)
        .await
        .unwrap();
    let size: i64 = sqlx::query_scalar("PRAGMA page_size")
        .fetch_one(&fixture.application)
        .await
        .unwrap();
    fixture.application.close().await;

    let mut file = std::fs::read(fixture.path()).unwrap();
    let page = usize::try_from((root - 1) * size).unwrap();
    // The pointer of the second cell; there a length of one byte, then the rowid.
    let cell = u16::from_be_bytes([file[page + 10], file[page + 11]]);
    let rowid = page + usize::from(cell) + 1;
    assert_eq!(file[rowid], 2);
    file[rowid] = 66;
    std::fs::write(fixture.path(), file).unwrap();
    fixture.reopen("").await;
    let columns = [CensusColumn {
        name: "ssn".to_owned(),
        ..ssn().to_count()
    }];
    let counted = fixture.source().census("visits", &columns, None).await;
    let said = counted.unwrap_err().to_string();
    assert!(
        said.contains("9 rows are there, and 1 are found by their rowids"),
        "{said}"
    );
}
