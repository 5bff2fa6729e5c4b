//! Reading: the rows that still have to be moved, and of them only what has to be.

use rekey_domain::{BindValue, KeyId};
use rekey_sources::StoredValue;

use super::fixture::{
    Fixture, NEW, OLD, Patient, base64, ciphertext, id, notes, patient, read_all, ssn, whole,
};

pub async fn only_rows_with_an_unsettled_value_are_read(fixture: &impl Fixture) {
    let half = |id, ssn, notes| Patient {
        ssn,
        notes,
        ..patient(id, OLD)
    };
    let old_ssn = ciphertext(OLD, 3, 60);
    let new_ssn = ciphertext(NEW, 4, 60);
    let old_notes = base64(OLD, 5);
    fixture
        .insert(&[
            patient(1, OLD),
            patient(2, NEW),
            half(3, Some(old_ssn.clone()), None),
            half(4, Some(new_ssn), Some(old_notes.clone())),
            half(5, None, None),
            half(6, Some(b"not ciphertext".to_vec()), Some(base64(NEW, 6))),
        ])
        .await;
    let query = whole(fixture.source(), vec![ssn(), notes()]).await;
    let rows = read_all(fixture.source(), &query).await;
    let ids: Vec<_> = rows.iter().map(id).collect();
    assert_eq!(ids, [1, 3, 4, 6]);
    assert_eq!(rows[1].values, [Some(StoredValue::Bytes(old_ssn)), None]);
    assert_eq!(rows[2].values, [None, Some(StoredValue::Text(old_notes))]);
    let plain = StoredValue::Bytes(b"not ciphertext".to_vec());
    assert_eq!(rows[3].values, [Some(plain), None]);
}

pub async fn all_is_settled_where_nothing_is_left(fixture: &impl Fixture) {
    let newer = KeyId::new(0x7777_7777);
    fixture.insert(&[patient(1, NEW), patient(2, newer)]).await;
    let mut query = whole(fixture.source(), vec![ssn(), notes()]).await;
    assert_eq!(read_all(fixture.source(), &query).await.len(), 1);
    for column in &mut query.columns {
        column.settled.push(newer);
    }
    assert!(read_all(fixture.source(), &query).await.is_empty());
    for column in &mut query.columns {
        column.settled.clear();
    }
    assert_eq!(read_all(fixture.source(), &query).await.len(), 2);
}

pub async fn base64_is_settled_by_its_prefix(fixture: &impl Fixture) {
    // Every nonce gives one of four prefixes, and each of them is seen here.
    let patients: Vec<_> = (0..64).map(|id| patient(id, NEW)).collect();
    let seen: std::collections::BTreeSet<_> = patients
        .iter()
        .filter_map(|patient| patient.notes.as_ref()?.get(..7))
        .collect();
    assert_eq!(seen.len(), 4);
    fixture.insert(&patients).await;
    let query = whole(fixture.source(), vec![notes()]).await;
    assert!(read_all(fixture.source(), &query).await.is_empty());
}

pub async fn binds_come_in_the_order_of_the_query(fixture: &impl Fixture) {
    fixture.insert(&[patient(42, OLD)]).await;
    let mut query = whole(fixture.source(), vec![ssn()]).await;
    query.bind_columns = vec!["name".to_owned(), "id".to_owned(), "notes".to_owned()];
    fixture.execute("UPDATE patients SET notes = NULL").await;
    let rows = read_all(fixture.source(), &query).await;
    let name = BindValue::from("patient 42");
    assert_eq!(rows[0].binds, [Some(name), Some(BindValue::from(42)), None]);
}
