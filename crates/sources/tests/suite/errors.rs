//! Errors that every kind of source gives: what is wrong, where, and what to do.

use rekey_domain::{Range, TextEncoding};
use rekey_sources::{SourceError, StoredValue};

use super::fixture::{
    Fixture, NEW, OLD, ciphertext, in_a_minute, patient, read_all, ssn, swap, whole,
};

const RANGE: Range = Range { first: 0, last: 9 };

pub async fn a_missing_table_is_named(fixture: &impl Fixture) {
    let source = fixture.source();
    let error = source.describe("patiens").await.unwrap_err();
    assert!(matches!(error, SourceError::NoSuchTable { .. }));
    assert!(error.to_string().contains("patiens") && !error.is_retryable());
    for error in [
        source.next_range("patiens", None, 1).await.map(drop),
        source
            .census("patiens", "ssn", TextEncoding::Binary, RANGE)
            .await
            .map(drop),
        source
            .write("patiens", &[], in_a_minute(source).await)
            .await
            .map(drop),
    ] {
        assert!(matches!(error, Err(SourceError::NoSuchTable { .. })));
    }
}

/// Where a database takes an unknown quoted name for a string, a census would count that string.
pub async fn a_missing_column_is_named_with_those_there_are(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, OLD)]).await;
    let source = fixture.source();
    let census = source.census("patients", "snn", TextEncoding::Binary, RANGE);
    let error = census.await.unwrap_err();
    let found = "id, name, ssn, notes, updated_at";
    let message = format!("table patients has no column snn; it has {found}");
    assert_eq!(error.to_string(), message);

    let mut query = whole(source, vec![ssn()]).await;
    query.bind_columns = vec!["no bind".to_owned()];
    let error = source.read(&query, None, 100).await.unwrap_err();
    assert!(matches!(error, SourceError::NoSuchColumn { .. }));
    query.bind_columns.clear();
    let rows = read_all(source, &query).await;
    let mut update = swap(&rows[0], &ssn(), StoredValue::Bytes(ciphertext(NEW, 1, 60)));
    update.columns[0].name = "snn".to_owned();
    let deadline = in_a_minute(source).await;
    let updates = [update];
    let written = source.write("patients", &updates, deadline);
    assert!(matches!(
        written.await,
        Err(SourceError::NoSuchColumn { .. })
    ));
}

pub async fn a_view_is_refused(fixture: &impl Fixture) {
    fixture
        .execute("CREATE VIEW adults AS SELECT * FROM patients")
        .await;
    let error = fixture.source().describe("adults").await.unwrap_err();
    assert!(matches!(error, SourceError::NotATable { .. }));
    assert!(error.to_string().starts_with("adults is a view"));
}

pub async fn a_value_of_the_wrong_type_is_refused(fixture: &impl Fixture) {
    let patients = [patient(1, OLD)];
    fixture.insert(&patients).await;
    let source = fixture.source();
    let query = whole(source, vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    for new in [StoredValue::Other, StoredValue::Text("AQ==".to_owned())] {
        let update = swap(&rows[0], &ssn(), new);
        let deadline = in_a_minute(source).await;
        let updates = [update];
        let written = source.write("patients", &updates, deadline);
        let error = written.await.unwrap_err();
        assert!(matches!(error, SourceError::NotWritable { .. }));
    }
    assert_eq!(fixture.patients().await, patients);
}

pub async fn a_constraint_names_its_row(fixture: &impl Fixture) {
    fixture
        .execute("CREATE TABLE small (id INTEGER PRIMARY KEY, ssn BLOB CHECK (length(ssn) < 50))")
        .await;
    fixture
        .execute("INSERT INTO small VALUES (1, x'01aa')")
        .await;
    let source = fixture.source();
    let mut query = whole(source, vec![ssn()]).await;
    query.relation = "small".to_owned();
    query.range = source.next_range("small", None, 1).await.unwrap().unwrap();
    let rows = read_all(source, &query).await;
    let update = swap(&rows[0], &ssn(), StoredValue::Bytes(ciphertext(NEW, 1, 60)));
    let deadline = in_a_minute(source).await;
    let updates = [update];
    let written = source.write("small", &updates, deadline);
    let error = written.await.unwrap_err();
    assert!(error.to_string().ends_with("a CHECK constraint"), "{error}");
    assert!(matches!(error, SourceError::Refused { row, .. } if row == rows[0].key));
}
