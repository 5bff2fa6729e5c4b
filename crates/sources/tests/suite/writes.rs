//! Writing: the values that were given, and nothing else of the row.

use rekey_sources::{ColumnUpdate, RowUpdate, StoredValue, WriteOutcome};

use super::fixture::{
    Fixture, NEW, OLD, Patient, base64, ciphertext, id, notes, patient, read_all, ssn, swap, whole,
    write,
};

pub async fn nothing_but_the_columns_is_written(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    let query = whole(fixture.source(), vec![ssn()]).await;
    let rows = read_all(fixture.source(), &query).await;
    let new = ciphertext(NEW, 99, 60);
    let update = swap(&rows[1], &ssn(), StoredValue::Bytes(new.clone()));
    let outcomes = write(fixture.source(), &[update]).await;
    assert_eq!(outcomes, [WriteOutcome::Written]);
    let moved = Patient {
        ssn: Some(new),
        ..patient(2, OLD)
    };
    assert_eq!(fixture.patients().await, [patient(1, OLD), moved]);
}

pub async fn two_columns_are_written_together(fixture: &impl Fixture) {
    fixture.insert(&[patient(1, OLD)]).await;
    let query = whole(fixture.source(), vec![ssn(), notes()]).await;
    let rows = read_all(fixture.source(), &query).await;
    let new = patient(1, NEW);
    let values = [
        new.ssn.clone().map(StoredValue::Bytes),
        new.notes.clone().map(StoredValue::Text),
    ];
    let columns = [ssn(), notes()]
        .into_iter()
        .zip(&rows[0].values)
        .zip(values);
    let columns = columns.map(|((column, old), new)| ColumnUpdate {
        name: column.name.into(),
        encoding: column.encoding,
        old: old.clone().unwrap(),
        new: new.unwrap(),
    });
    let update = RowUpdate {
        key: rows[0].key,
        columns: columns.collect(),
    };
    let outcomes = write(fixture.source(), &[update]).await;
    assert_eq!(outcomes, [WriteOutcome::Written]);
    assert_eq!(fixture.patients().await, [new]);
}

pub async fn more_rows_than_a_transaction_takes(fixture: &impl Fixture) {
    let patients: Vec<_> = (1..=1203).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let query = whole(fixture.source(), vec![notes()]).await;
    let rows = read_all(fixture.source(), &query).await;
    fixture
        .execute("UPDATE patients SET notes = 'changed' WHERE id % 7 = 0")
        .await;
    let new = |row| StoredValue::Text(base64(NEW, id(row) as u64));
    let updates: Vec<_> = rows
        .iter()
        .map(|row| swap(row, &notes(), new(row)))
        .collect();
    let outcomes = write(fixture.source(), &updates).await;
    for (patient, outcome) in fixture.patients().await.iter().zip(outcomes) {
        let (expected, notes) = if patient.id % 7 == 0 {
            (WriteOutcome::Lost, "changed".to_owned())
        } else {
            (WriteOutcome::Written, base64(NEW, patient.id as u64))
        };
        assert_eq!((outcome, patient.notes.clone()), (expected, Some(notes)));
    }
    assert!(rows.len() == 1203);
}

pub async fn no_updates_are_no_work(fixture: &impl Fixture) {
    assert_eq!(write(fixture.source(), &[]).await, []);
}
