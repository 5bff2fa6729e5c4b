//! Deadlines: a worker that was away too long writes nothing.

use std::time::Duration;

use rekey_sources::{Deadline, SourceError, StoredValue};

use super::fixture::{
    Fixture, NEW, OLD, ciphertext, in_a_minute, patient, read_all, ssn, swap, target, whole,
};

pub async fn nothing_is_written_after_the_deadline(fixture: &impl Fixture) {
    let patients: Vec<_> = (1..=600).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let source = fixture.source();
    let query = whole(source, vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    let new = StoredValue::Bytes(ciphertext(NEW, 1, 60));
    let updates: Vec<_> = rows
        .iter()
        .map(|row| swap(row, &ssn(), new.clone()))
        .collect();
    let short = source.deadline(Duration::from_millis(20)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    for passed in [short, Deadline::from_unix_millis(0)] {
        let error = source.write(&target(&query), &updates, passed).await;
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::DeadlinePassed { .. }));
        assert!(error.is_retryable());
    }
    assert_eq!(fixture.patients().await, patients);
}

pub async fn a_deadline_is_in_the_sources_time(fixture: &impl Fixture) {
    let source = fixture.source();
    let now = source.deadline(Duration::ZERO).await.unwrap();
    let later = in_a_minute(source).await;
    let between = later.unix_millis() - now.unix_millis();
    assert!((60_000..65_000).contains(&between), "{between} ms");
    assert!(
        now.unix_millis() > 1_700_000_000_000,
        "milliseconds, not seconds"
    );
    assert!(source.deadline(Duration::MAX).await.unwrap() > later);
}
