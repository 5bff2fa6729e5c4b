//! An application that writes all the while: nothing it wrote is lost, and it gets its turn.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rekey_domain::KeyId;
use rekey_sources::{RowUpdate, SourceError, SourceRow, StoredValue};

use super::fixture::{
    Fixture, NEW, OLD, ciphertext, id, in_a_minute, only_part, patient, read_all, ssn, swap,
    target_of, whole,
};

const ROWS: i64 = 400;
/// Prefix and nonce; what follows stands for what the application encrypted.
const BODY: usize = 17;
/// As long as an application waits for a lock by default.
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn no_update_of_the_application_is_lost(fixture: &impl Fixture) {
    let patients: Vec<_> = (0..ROWS).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let (stop, rows_written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (written, ()) = tokio::join!(application(fixture, &stop, &rows_written), async {
        let mut passes = 0;
        while passes < 20 || rows_written.load(Relaxed) <= 20 {
            move_rows(fixture).await;
            passes += 1;
            // On a busy machine each gets its turn later, but it gets it.
            assert!(passes < 500, "the application gets no turn");
        }
        stop.store(true, Relaxed);
    });
    assert!(move_rows(fixture).await, "nobody else writes any more");
    assert!(written.len() > 20);
    for patient in fixture.patients().await {
        let untouched = (0, patient_body(patient.id));
        let (updates, body) = written.get(&patient.id).unwrap_or(&untouched);
        let ssn = patient.ssn.expect("nobody erases one");
        assert_eq!(&ssn[BODY..], body, "patient {}", patient.id);
        assert_eq!(patient.updated_at, 7 + updates);
        assert!(ssn.starts_with(&rekey_envelope::prefix(NEW)));
    }
}

/// Writes a row after the other, under the old key as often as under the new. Gives the number of
/// updates and the last body of each row.
async fn application(
    fixture: &impl Fixture,
    stop: &AtomicBool,
    rows_written: &AtomicUsize,
) -> HashMap<i64, (i64, Vec<u8>)> {
    let mut written: HashMap<i64, (i64, Vec<u8>)> = HashMap::new();
    for turn in 0u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let id = (turn * 37) as i64 % ROWS;
        let key: KeyId = if turn.is_multiple_of(2) { OLD } else { NEW };
        let ssn = ciphertext(key, turn + 10_000, 60);
        let started = Instant::now();
        fixture.store_ssn(id, &ssn).await;
        assert!(
            started.elapsed() < PATIENCE,
            "waited {:?}",
            started.elapsed()
        );
        let row = written.entry(id).or_default();
        *row = (row.0 + 1, ssn[BODY..].to_vec());
        rows_written.store(written.len(), Relaxed);
        tokio::task::yield_now().await;
    }
    written
}

/// One pass of a rotation: a new nonce under the new key, the same body. Lost races, and a lock that was waited for in
/// vain, are for the next pass; false: nothing was written for that.
async fn move_rows(fixture: &impl Fixture) -> bool {
    let source = fixture.source();
    let query = whole(source, vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    let updates: Vec<_> = rows.iter().map(moved).collect();
    let target = target_of("patients", only_part(source, "patients").await.id);
    let deadline = in_a_minute(source).await;
    match source.write(&target, &updates, deadline).await {
        Ok(_) => true,
        Err(SourceError::Busy { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn moved(row: &SourceRow) -> RowUpdate {
    let Some(StoredValue::Bytes(old)) = &row.values[0] else {
        panic!("{row:?} holds no bytes");
    };
    let nonce = u64::from_be_bytes(old[9..BODY].try_into().unwrap()) ^ id(row) as u64;
    let mut new = ciphertext(NEW, nonce, BODY);
    new.extend(&old[BODY..]);
    swap(row, &ssn(), StoredValue::Bytes(new))
}

fn patient_body(id: i64) -> Vec<u8> {
    ciphertext(OLD, id as u64, 60)[BODY..].to_vec()
}
