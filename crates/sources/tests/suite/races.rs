//! Lost races: what the application did meanwhile stays, to the last column of the last row.

use rekey_domain::TextEncoding;
use rekey_sources::{ColumnUpdate, ReadColumn, RowUpdate, StoredValue, WriteOutcome};

use super::fixture::{
    Fixture, NEW, OLD, Patient, base64, ciphertext, notes, patient, read_all, ssn, whole, write,
};

pub async fn a_changed_value_is_not_overwritten(fixture: &impl Fixture) {
    // Under the old key again, and as long as before: only the nonce tells.
    let mine = ciphertext(OLD, 555, 60);
    lose(fixture, &[ssn()], async || {
        fixture.store_ssn(2, &mine).await
    })
    .await;
}

/// Alike in everything but the last byte of an IV.
pub async fn an_iv_is_compared_to_its_end(fixture: &impl Fixture) {
    let mut mine = patient(2, OLD).ssn.expect("patients have one");
    mine[rekey_envelope::FINGERPRINT_LEN - 1] ^= 1;
    lose(fixture, &[ssn()], async || {
        fixture.store_ssn(2, &mine).await
    })
    .await;
}

pub async fn a_deleted_row_stays_deleted(fixture: &impl Fixture) {
    let delete = "DELETE FROM patients WHERE id = 2";
    lose(fixture, &[ssn()], async || fixture.execute(delete).await).await;
}

pub async fn a_row_inserted_anew_is_not_overwritten(fixture: &impl Fixture) {
    let anew = Patient {
        ssn: Some(ciphertext(OLD, 777, 60)),
        ..patient(2, OLD)
    };
    lose(fixture, &[ssn()], async || {
        fixture.execute("DELETE FROM patients WHERE id = 2").await;
        fixture.insert(std::slice::from_ref(&anew)).await;
    })
    .await;
}

pub async fn one_changed_column_keeps_the_other(fixture: &impl Fixture) {
    let mine = ciphertext(OLD, 888, 60);
    let columns = [ssn(), notes()];
    lose(fixture, &columns, async || {
        fixture.store_ssn(2, &mine).await
    })
    .await;
}

pub async fn text_is_compared_as_a_whole(fixture: &impl Fixture) {
    let end = "UPDATE patients SET notes = substr(notes, 1, length(notes) - 1) || '?' WHERE id = 2";
    lose(fixture, &[notes()], async || fixture.execute(end).await).await;
    let case = "UPDATE patients SET notes = lower(notes) WHERE id = 2";
    fixture.execute("DELETE FROM patients").await;
    lose(fixture, &[notes()], async || fixture.execute(case).await).await;
}

/// Plaintext has no nonce: two values may start alike for longer than a fingerprint.
pub async fn plaintext_is_compared_as_a_whole(fixture: &impl Fixture) {
    let plain = Patient {
        ssn: Some(b"allergic to penicillin: no".to_vec()),
        ..patient(2, OLD)
    };
    fixture.insert(&[plain]).await;
    lose_in(fixture, &[ssn()], async || {
        fixture.store_ssn(2, b"allergic to penicillin: yes").await;
    })
    .await;
}

pub async fn a_value_that_became_null_stays_null(fixture: &impl Fixture) {
    let erase = "UPDATE patients SET ssn = NULL WHERE id = 2";
    lose(fixture, &[ssn()], async || fixture.execute(erase).await).await;
}

async fn lose(fixture: &impl Fixture, columns: &[ReadColumn], meanwhile: impl AsyncFn()) {
    let patients: Vec<_> = (1..=3).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    lose_in(fixture, columns, meanwhile).await;
}

/// Reads patient 2, lets the application act, writes: nothing may change.
async fn lose_in(fixture: &impl Fixture, columns: &[ReadColumn], meanwhile: impl AsyncFn()) {
    let source = fixture.source();
    let query = whole(source, columns.to_vec()).await;
    let rows = read_all(source, &query).await;
    let row = rows.iter().find(|row| super::fixture::id(row) == 2);
    let row = row.expect("patient 2 is there");
    meanwhile().await;
    let before = fixture.patients().await;
    let columns = columns.iter().zip(&row.values).map(replace);
    let update = RowUpdate {
        key: row.key,
        columns: columns.collect(),
    };
    assert_eq!(write(source, &[update]).await, [WriteOutcome::Lost]);
    assert_eq!(fixture.patients().await, before);
}

fn replace((column, old): (&ReadColumn, &Option<StoredValue>)) -> ColumnUpdate {
    ColumnUpdate {
        name: column.name.as_str().into(),
        encoding: column.encoding,
        old: old.clone().expect("the value to replace"),
        new: match column.encoding {
            TextEncoding::Binary => StoredValue::Bytes(ciphertext(NEW, 1, 60)),
            TextEncoding::Base64 => StoredValue::Text(base64(NEW, 1)),
        },
    }
}
