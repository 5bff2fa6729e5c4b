//! How PostgreSQL does it, and how fast.

use std::time::Duration;

use rekey_sources::{StoredValue, WriteOutcome};

use super::{
    fixture::{
        Fixture, NEW, OLD, base64, census_of, ciphertext, id, only_part, read_all, ssn, swap,
        target, whole, write_to,
    },
    postgres_fixture::patients,
};

/// The place of a row is found by a TID scan, whatever the planner thinks of a small table; and a
/// lost row is looked at without reading the others.
#[tokio::test]
async fn two_thousand_rows_are_written_in_a_large_table_without_reading_it() {
    let (fixture, _, _) = patients(0).await;
    let insert = format!(
        "INSERT INTO patients SELECT i, 'p', '\\x{}'::bytea, '{}', 7 FROM generate_series(1, 60000) i",
        hex::encode(ciphertext(OLD, 1, 300)),
        base64(OLD, 1)
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    let mut query = whole(source, vec![ssn()]).await;
    query.range.last = 120;
    let rows = read_all(source, &query).await;
    assert!(rows.len() > 1_500, "{}", rows.len());
    let new = StoredValue::Bytes(ciphertext(NEW, 1, 300));
    let updates: Vec<_> = rows
        .iter()
        .map(|row| swap(row, &ssn(), new.clone()))
        .collect();
    let counted = async || -> (i64, i64) {
        let counts =
            "SELECT seq_tup_read, n_tup_upd FROM pg_stat_all_tables WHERE relname = 'patients'";
        let counted = sqlx::query_as(counts).fetch_one(&fixture.application);
        counted.await.unwrap()
    };
    let (before, _) = counted().await;
    let started = std::time::Instant::now();
    let written = write_to(source, &target(&query), &updates).await;
    assert!(
        written
            .iter()
            .all(|outcome| *outcome == WriteOutcome::Written)
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    // A session counts in the statistics some time after its transaction, what it read before among it.
    let mut after = counted().await;
    while after.1 < updates.len() as i64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        after = counted().await;
    }
    assert!(after.0 - before < 60_000, "read the whole table");
}

/// `cargo test -p rekey-sources -- --ignored --nocapture postgres_rows_a_second`
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement is for people")]
async fn postgres_rows_a_second() {
    let (fixture, _, _) = patients(0).await;
    let value = ciphertext(OLD, 1, 300);
    let insert = format!(
        "INSERT INTO patients SELECT i, 'p', {}, NULL, 7 FROM generate_series(1, 100000) i",
        fixture.literal(&value)
    );
    fixture.execute(&insert).await;
    fixture.execute("ANALYZE patients").await;
    let source = fixture.source();
    let mut query = whole(source, vec![ssn()]).await;
    let part = only_part(source, "patients").await;
    let (mut after, mut moved) = (None, 0);
    let started = std::time::Instant::now();
    while let Some(range) = source
        .next_range("patients", &part, after, 2000)
        .await
        .unwrap()
    {
        query.range = range;
        let rows = read_all(source, &query).await;
        let new = |row| StoredValue::Bytes(ciphertext(NEW, id(row) as u64, 300));
        let updates: Vec<_> = rows.iter().map(|row| swap(row, &ssn(), new(row))).collect();
        moved += write_to(source, &target(&query), &updates).await.len();
        assert!(read_all(source, &query).await.is_empty());
        after = Some(range.last);
    }
    let rate = moved as f64 / started.elapsed().as_secs_f64();
    let counting = std::time::Instant::now();
    census_of(source, "patients", &ssn()).await.unwrap();
    let counted = moved as f64 / counting.elapsed().as_secs_f64();
    eprintln!("{moved} rows: {rate:.0} moved/s, {counted:.0} counted/s");
}
