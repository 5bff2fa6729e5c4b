//! SQLite stores any value in any column: each comes back, and is compared, as what it is.

use std::collections::HashMap;

use proptest::{prelude::*, test_runner::TestRunner};
use rekey_domain::{BindValue, Found};
use rekey_sources::{SourceError, SourceRow, StoredValue, WriteOutcome};

use super::{
    fixture::{
        Fixture, NEW, OLD, base64, census_of, ciphertext, id, notes, patient, read_all, runtime,
        ssn, swap, whole, whole_of, write,
    },
    sqlite_fixture::SqliteFixture,
};

/// Patients whose `ssn` and `notes` are of the wrong storage class.
async fn mixed() -> SqliteFixture {
    let fixture = SqliteFixture::new("delete").await;
    let patients: Vec<_> = (1..=5).map(|id| patient(id, NEW)).collect();
    fixture.insert(&patients).await;
    for (id, ssn, notes) in [
        (1, "CAST(notes AS TEXT)", "CAST(notes AS BLOB)"),
        (2, "42", "x'07'"),
        (3, "1.5", "CAST(x'ff4151' AS TEXT)"),
        (4, "x''", "''"),
    ] {
        let sql = format!("UPDATE patients SET ssn = {ssn}, notes = {notes} WHERE id = {id}");
        fixture.execute(&sql).await;
    }
    fixture
}

#[tokio::test]
async fn a_value_comes_back_in_its_own_storage_class() {
    let fixture = mixed().await;
    let query = whole(fixture.source(), vec![ssn(), notes()]).await;
    let rows = read_all(fixture.source(), &query).await;
    let values: Vec<_> = rows.iter().map(|row| row.values.clone()).collect();
    let text = |text: String| Some(StoredValue::Text(text));
    let bytes = |bytes: &[u8]| Some(StoredValue::Bytes(bytes.to_vec()));
    let other = Some(StoredValue::Other);
    let expected = [
        [text(base64(NEW, 1)), bytes(base64(NEW, 1).as_bytes())],
        [other.clone(), bytes(b"\x07")],
        [other.clone(), other],
    ];
    assert_eq!(values, expected);
}

#[tokio::test]
async fn the_wrong_storage_class_is_no_ciphertext() {
    let fixture = mixed().await;
    for column in [ssn(), notes()] {
        let census = census_of(fixture.source(), "patients", &column).await;
        let expected = [
            (Found::Key(NEW), 1),
            (Found::NotCiphertext, 3),
            // Of whichever class.
            (Found::Empty, 1),
        ];
        assert_eq!(census.unwrap(), expected, "{}", column.name);
    }
}

/// A rotation quarantines such values; adopting a column replaces them.
#[tokio::test]
async fn a_value_of_the_wrong_class_is_replaced_by_one_of_the_right() {
    let fixture = mixed().await;
    let query = whole(fixture.source(), vec![notes()]).await;
    let rows = read_all(fixture.source(), &query).await;
    let new = StoredValue::Text(base64(NEW, 9));
    let replace = |row| swap(row, &notes(), new.clone());
    let bytes: Vec<_> = rows
        .iter()
        .filter(|row| id(row) <= 2)
        .map(replace)
        .collect();
    let outcomes = write(fixture.source(), &bytes).await;
    assert_eq!(outcomes, [WriteOutcome::Written; 2]);
    // Text of the same bytes is not the blob that was read.
    let outcomes = write(fixture.source(), &bytes).await;
    assert_eq!(outcomes, [WriteOutcome::Lost; 2]);
}

#[tokio::test]
async fn binds_are_typed_as_they_are_stored() {
    let fixture = SqliteFixture::new("delete").await;
    fixture
        .execute("CREATE TABLE typed (i INT, t TEXT, b BLOB, r INT, n INT, bad TEXT, ssn BLOB)")
        .await;
    fixture
        .execute(
            "INSERT INTO typed VALUES (-9, 'ü', x'00ff', 1.5, NULL, CAST(x'ff' AS TEXT), x'01')",
        )
        .await;
    let mut query = whole_of(fixture.source(), "typed", vec![ssn()]).await;
    query.bind_columns = ["i", "t", "b", "r", "n", "bad"].map(str::to_owned).to_vec();
    let rows = read_all(fixture.source(), &query).await;
    let expected = [
        Some(BindValue::Integer(-9)),
        Some(BindValue::from("ü")),
        Some(BindValue::Bytes(vec![0, 255])),
        None,
        None,
        None,
    ];
    assert_eq!(rows[0].binds, expected);
    assert!(!format!("{rows:?}").contains('ü'), "binds are PHI");
}

/// The number 31, the text '31' and the blob x'31' would be one associated data.
#[tokio::test]
async fn a_value_of_another_storage_class_than_its_column_binds_nothing() {
    let fixture = SqliteFixture::new("delete").await;
    for (declared, values, expected) in [
        (
            "INTEGER",
            "(31), ('31'), (x'31')",
            [Some(31.into()), Some(31.into()), None],
        ),
        (
            "TEXT",
            "(31), ('31'), (x'31')",
            [Some("31".into()), Some("31".into()), None],
        ),
        (
            "BLOB",
            "(31), ('31'), (x'31')",
            [None, None, Some(BindValue::Bytes(vec![0x31]))],
        ),
        (
            "uuid_text",
            "(31), ('31'), (x'31')",
            [None, None, Some(BindValue::Bytes(vec![0x31]))],
        ),
    ] {
        let rows = bound(&fixture, declared, values).await.unwrap();
        let binds: Vec<_> = rows.iter().map(|row| row.binds[0].clone()).collect();
        assert_eq!(binds, expected, "{declared}");
    }
}

#[tokio::test]
async fn a_column_that_may_hold_any_storage_class_binds_no_value() {
    let fixture = SqliteFixture::new("delete").await;
    for declared in ["", "REAL", "NUMERIC", "UUID"] {
        let error = bound(&fixture, declared, "(31)").await.unwrap_err();
        assert!(matches!(error, SourceError::CannotBind { .. }), "{error}");
        let shape = fixture.source().describe("typed").await.unwrap();
        assert!(!shape.column("tag").unwrap().can_bind(), "{declared}");
    }
}

/// Rows of a table whose `tag`, which is declared so, binds `ssn`.
async fn bound(
    fixture: &SqliteFixture,
    declared: &str,
    values: &str,
) -> Result<Vec<SourceRow>, SourceError> {
    fixture.execute("DROP TABLE IF EXISTS typed").await;
    let create = format!("CREATE TABLE typed (tag {declared}, ssn BLOB DEFAULT x'01')");
    fixture.execute(&create).await;
    let insert = format!("INSERT INTO typed (tag) VALUES {values}");
    fixture.execute(&insert).await;
    let mut query = whole_of(fixture.source(), "typed", vec![ssn()]).await;
    query.bind_columns = vec!["tag".to_owned()];
    let page = fixture.source().read(&query, None, usize::MAX).await?;
    Ok(page.rows)
}

/// A value that looks like others of other storage classes, as SQL.
fn look_alike() -> impl Strategy<Value = String> {
    let texts = "[0-9a-f/%-]{0,4}|-?[1-9][0-9]{0,3}";
    prop_oneof![
        (-99_i64..9_999).prop_map(|number| number.to_string()),
        texts.prop_map(|text| format!("'{text}'")),
        texts.prop_map(move |text| format!("x'{}'", hex::encode(text))),
        proptest::collection::vec(any::<u8>(), 0..3)
            .prop_map(|bytes| format!("x'{}'", hex::encode(bytes))),
    ]
}

#[test]
fn no_two_values_of_a_bind_column_share_associated_data() {
    let runtime = runtime();
    let fixture = runtime.block_on(SqliteFixture::new("delete"));
    let columns = proptest::sample::select(vec!["INT", "VARCHAR(9)", "BLOB", "uuid_text"]);
    let values = proptest::collection::vec(look_alike(), 1..40);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let property = runner.run(&(columns, values), |(declared, values)| {
        let values = values.iter().map(|value| format!("({value})"));
        let values = values.collect::<Vec<_>>().join(", ");
        let stored = runtime.block_on(async {
            let rows = bound(&fixture, declared, &values).await.unwrap();
            let stored =
                sqlx::query_scalar("SELECT typeof(tag) || quote(tag) FROM typed ORDER BY rowid");
            let stored: Vec<String> = stored.fetch_all(&fixture.application).await.unwrap();
            rows.into_iter().zip(stored).collect::<Vec<_>>()
        });
        let mut known = HashMap::new();
        for (row, stored) in stored {
            let Some(bind) = row.binds[0].clone() else {
                continue;
            };
            let bound_to = rekey_envelope::associated_data("c", &[bind]);
            let first = known.entry(bound_to).or_insert_with(|| stored.clone());
            prop_assert_eq!(first.as_str(), stored.as_str(), "in a column {}", declared);
        }
        Ok(())
    });
    property.unwrap();
}

/// A UTF-16 database holds the same text in other bytes.
#[tokio::test]
async fn a_database_in_utf16_is_read_the_same() {
    let fixture = SqliteFixture::new("delete").await;
    let path = fixture.directory.path().join("utf16.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await.unwrap();
    let create = "PRAGMA encoding = 'UTF-16le'; \
                  CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn BLOB, notes TEXT)";
    sqlx::raw_sql(create).execute(&pool).await.unwrap();
    let insert = sqlx::query("INSERT INTO patients VALUES (1, ?, ?), (2, ?, ?)")
        .bind(ciphertext(OLD, 1, 60))
        .bind(base64(OLD, 1))
        .bind(ciphertext(NEW, 1, 60))
        .bind(base64(NEW, 1));
    insert.execute(&pool).await.unwrap();
    let url = format!("sqlite:{}", path.display());
    let source = rekey_sources::open(&url).await.unwrap();
    let query = whole(&source, vec![notes()]).await;
    let rows = read_all(&source, &query).await;
    assert_eq!(rows.len(), 1);
    let update = swap(&rows[0], &notes(), StoredValue::Text(base64(NEW, 5)));
    assert_eq!(write(&source, &[update]).await, [WriteOutcome::Written]);
    let census = census_of(&source, "patients", &notes()).await;
    assert_eq!(census.unwrap(), [(Found::Key(NEW), 2)]);
}
