//! Errors that every kind of source gives: what is wrong, where, and what to do.

use rekey_domain::{Part, PartId, Triggers};
use rekey_sources::{SourceError, StoredValue};

use super::fixture::{
    Fixture, NEW, OLD, census_of, ciphertext, in_a_minute, only_part, patient, read_all, ssn, swap,
    target, target_of, whole, whole_of,
};

pub async fn a_missing_table_is_named(fixture: &impl Fixture) {
    let source = fixture.source();
    let error = source.describe("patiens").await.unwrap_err();
    assert!(matches!(error, SourceError::NoSuchTable { .. }));
    assert!(error.to_string().contains("patiens") && !error.is_retryable());
    let part = only_part(source, "patients").await.id;
    let target = target_of("patiens", part);
    for error in [
        source.parts("patiens").await.map(drop),
        census_of(source, "patiens", &ssn()).await.map(drop),
        source
            .write(&target, &[], in_a_minute(source).await)
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
    let mut snn = ssn();
    snn.name = "snn".into();
    let error = census_of(source, "patients", &snn).await.unwrap_err();
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
    update.columns[0].name = "snn".into();
    let deadline = in_a_minute(source).await;
    let updates = [update];
    let target = target(&query);
    let written = source.write(&target, &updates, deadline);
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
        let target = target(&query);
        let written = source.write(&target, &updates, deadline);
        let error = written.await.unwrap_err();
        assert!(matches!(error, SourceError::NotWritable { .. }));
    }
    assert_eq!(fixture.patients().await, patients);
}

pub async fn a_constraint_names_its_row(fixture: &impl Fixture) {
    let (bytes, value) = (fixture.bytes(), fixture.literal(&[1, 0xaa]));
    let create = format!(
        "CREATE TABLE small (id INTEGER PRIMARY KEY, ssn {bytes} CHECK (length(ssn) < 50))"
    );
    fixture.execute(&create).await;
    let insert = format!("INSERT INTO small VALUES (1, {value}), (2, {value}), (3, {value})");
    fixture.execute(&insert).await;
    let source = fixture.source();
    let query = whole_of(source, "small", vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    let long = StoredValue::Bytes(ciphertext(NEW, 1, 60));
    let short = StoredValue::Bytes(ciphertext(NEW, 1, 40));
    let updates = [
        swap(&rows[0], &ssn(), short.clone()),
        swap(&rows[1], &ssn(), long),
        swap(&rows[2], &ssn(), short),
    ];
    let deadline = in_a_minute(source).await;
    let error = source.write(&target(&query), &updates, deadline).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("a CHECK constraint"), "{error}");
    assert!(matches!(error, SourceError::Refused { row, .. } if row == rows[1].key));
}

pub async fn what_refused_an_update_is_named(fixture: &impl Fixture) {
    let bytes = fixture.bytes();
    let value = fixture.literal(&ciphertext(OLD, 1, 40));
    let create = format!(
        "CREATE TABLE small (id INTEGER PRIMARY KEY, ssn {bytes} CONSTRAINT short CHECK (length(ssn) < 50))"
    );
    fixture.execute(&create).await;
    fixture
        .execute(&format!("INSERT INTO small VALUES (1, {value})"))
        .await;
    let refused = async |length| {
        let source = fixture.source();
        let query = whole_of(source, "small", vec![ssn()]).await;
        let rows = read_all(source, &query).await;
        let new = StoredValue::Bytes(ciphertext(NEW, 1, length));
        let deadline = in_a_minute(source).await;
        let mut target = target(&query);
        target.triggers = Triggers::Fire;
        let updates = [swap(&rows[0], &ssn(), new)];
        let written = source.write(&target, &updates, deadline);
        written.await.unwrap_err().to_string()
    };
    let said = refused(60).await;
    assert!(
        said.contains("a CHECK constraint") && said.contains("short"),
        "{said}"
    );
    for trigger in fixture.refusing_trigger("small", "guard") {
        fixture.execute(&trigger).await;
    }
    let said = refused(40).await;
    assert!(said.contains("trigger guard"), "{said}");
    assert!(!said.contains("123-45-6789"), "{said}");
}

pub async fn a_part_that_is_not_the_tables_is_not_read(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, OLD)]).await;
    let query = whole(fixture.source(), vec![ssn()]).await;
    let source = fixture.source();
    let Part { id, .. } = only_part(source, "patients").await;
    let other_form = PartId {
        form: "another".to_owned(),
        ..id.clone()
    };
    let other_name = PartId {
        name: "patients_2019".to_owned(),
        ..id
    };
    for part in [other_form, other_name] {
        let mut query = query.clone();
        query.part = part;
        let error = source.read(&query, None, 1 << 20).await.unwrap_err();
        assert!(matches!(error, SourceError::PartChanged { .. }), "{error}");
    }
}
