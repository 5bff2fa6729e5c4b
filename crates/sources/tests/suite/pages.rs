//! Pages: bounded by bytes, so that a table of large values cannot take all memory.

use super::fixture::{Fixture, OLD, Patient, ciphertext, id, patient, ssn, whole};

const MEGABYTE: usize = 1 << 20;

pub async fn a_page_ends_at_its_bytes(fixture: &impl Fixture) {
    insert_large(fixture, 20, 2 * MEGABYTE).await;
    let query = whole(fixture.source(), vec![ssn()]).await;
    let (mut ids, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = fixture.source().read(&query, after, 5 * MEGABYTE).await;
        let page = page.unwrap();
        assert!(page.rows.len() <= 3, "{} rows of 2 MB", page.rows.len());
        ids.extend(page.rows.iter().map(id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
    assert_eq!(pages, 7);
}

pub async fn a_page_holds_at_least_one_row(fixture: &impl Fixture) {
    insert_large(fixture, 2, 3 * MEGABYTE).await;
    let query = whole(fixture.source(), vec![ssn()]).await;
    for max_bytes in [0, 1, MEGABYTE] {
        let page = fixture.source().read(&query, None, max_bytes).await;
        assert_eq!(page.unwrap().rows.len(), 1);
    }
    let beyond = fixture.source().read(&query, Some(i64::MAX), 1).await;
    let beyond = beyond.unwrap();
    assert!(beyond.rows.is_empty() && beyond.next.is_none());
}

async fn insert_large(fixture: &impl Fixture, rows: i64, len: usize) {
    let large = |id| Patient {
        ssn: Some(ciphertext(OLD, id as u64, len)),
        ..patient(id, OLD)
    };
    let patients: Vec<_> = (1..=rows).map(large).collect();
    fixture.insert(&patients).await;
}
