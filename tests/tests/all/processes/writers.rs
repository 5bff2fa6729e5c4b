//! What an application, bad rows and repeated messages do to a rotation of many processes, and it to them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rekey_domain::{BindValue, RotationState, Worker};
use rekey_envelope::{associated_data, encode_base64};
use rekey_operations::quarantine_views;
use rekey_testkit::rabbitmq::Echo;
use rekey_tests::{
    cluster::{Cluster, Policy},
    support::operator,
    support::until,
};
use sqlx::Row;
use tokio::task::JoinSet;

const ROWS: i64 = 100_000;
const WRITERS: i64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_rows_are_rotated_under_writers_and_every_row_is_accounted_for() {
    let policy = Policy {
        batch_rows: 2_000,
        ..Policy::default()
    };
    let cluster = Arc::new(Cluster::of(ROWS, policy).await);
    let workers = cluster.start_all(3);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (cluster, stop) = (cluster.clone(), stop.clone());
        writers.spawn(async move { write(&cluster, number, &stop).await });
    }
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    stop.store(true, Ordering::SeqCst);
    let mut truth: BTreeMap<i64, Option<String>> = BTreeMap::new();
    let mut writes = 0;
    while let Some(written) = writers.join_next().await {
        let written = written.unwrap();
        writes += written.transactions;
        truth.extend(written.last);
    }
    for worker in workers {
        worker.terminate().await;
    }
    assert!(writes > 100, "{writes} transactions of the application");
    assert_eq!(view.quarantined, 0);
    assert_eq!(cluster.under(1).await, 0);
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);

    let rows = sqlx::query("SELECT id, ssn FROM patients").fetch_all(&cluster.source);
    let mut found: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    for row in rows.await.unwrap() {
        found.insert(row.get("id"), row.get("ssn"));
    }
    for id in 1..=ROWS {
        truth
            .entry(id)
            .or_insert_with(|| Some(rekey_tests::cluster::ssn(id)));
    }
    let living = truth.values().filter(|value| value.is_some()).count();
    assert_eq!(found.len(), living, "rows that are there");
    cluster
        .services
        .client
        .keyring_changed(&rekey_tests::support::phi());
    for (id, value) in truth {
        let Some(value) = value else {
            assert!(!found.contains_key(&id), "{id} was deleted");
            continue;
        };
        assert_eq!(cluster.open("ssn", id, &found[&id]).await, value, "{id}");
    }
}

struct Written {
    transactions: u32,
    /// What each row says that this writer wrote last; none: it deleted it.
    last: BTreeMap<i64, Option<String>>,
}

/// Inserts, updates and deletes its own rows, several in a transaction, half of them from the last
/// row to the first. No transaction of it may ever be aborted.
async fn write(cluster: &Cluster, number: i64, stop: &AtomicBool) -> Written {
    let mut written = Written {
        transactions: 0,
        last: BTreeMap::new(),
    };
    let mut next = ROWS + 1 + number;
    while !stop.load(Ordering::SeqCst) {
        let mut ids: Vec<i64> = (0..8)
            .map(|_| rand::random_range(0..ROWS / WRITERS) * WRITERS + number + 1)
            .filter(|id| *id <= ROWS && written.last.get(id) != Some(&None))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        if rand::random() {
            ids.reverse();
        }
        let mut values = Vec::new();
        for id in &ids {
            let value = format!("{id}-{:08}", rand::random_range(0..100_000_000));
            values.push((*id, cluster.seal("ssn", *id, &value).await, value));
        }
        let inserted = cluster.seal("ssn", next, "new").await;
        let mut transaction = cluster.source.begin().await.unwrap();
        for (id, sealed, value) in values {
            let update = sqlx::query("UPDATE patients SET ssn = $1 WHERE id = $2");
            let done = update
                .bind(sealed)
                .bind(id)
                .execute(&mut *transaction)
                .await;
            assert_eq!(done.unwrap().rows_affected(), 1, "{id}");
            written.last.insert(id, Some(value));
        }
        let insert = sqlx::query("INSERT INTO patients VALUES ($1, $2, NULL, '2024-02-29')");
        let insert = insert.bind(next).bind(inserted).execute(&mut *transaction);
        insert.await.unwrap();
        written.last.insert(next, Some("new".to_owned()));
        if let (true, Some(id)) = (rand::random_ratio(1, 4), ids.first()) {
            let delete = sqlx::query("DELETE FROM patients WHERE id = $1").bind(id);
            delete.execute(&mut *transaction).await.unwrap();
            written.last.insert(*id, None);
        }
        transaction.commit().await.unwrap();
        next += WRITERS;
        written.transactions += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_twice_in_another_order_and_with_unknown_fields_makes_one_rotation() {
    let policy = Policy {
        batch_rows: 50,
        ..Policy::default()
    };
    let cluster = Cluster::of(1_000, policy).await;
    let workers = cluster.start_all(2);
    for worker in &workers {
        worker.answers("/readyz", 200).await;
    }
    let echo = Echo::of(&cluster.broker.url(), "rekey").await;
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!(view.moved, cluster.values());
    assert!(echo.sent() > 30, "{} messages again", echo.sent());
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_among_good_ones_are_quarantined_with_their_reason_and_the_rest_is_done() {
    let cluster = Cluster::of(500, Policy::default()).await;
    let mut corrupt = cluster.seal("ssn", 3, "123").await;
    *corrupt.last_mut().unwrap() ^= 1;
    let mut keyless = cluster.seal("ssn", 9, "123").await;
    keyless[1..5].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    let audit = "audit".parse().unwrap();
    let foreign = cluster
        .services
        .client
        .encryption_key(&audit, 1)
        .await
        .unwrap();
    let place = associated_data("clinic.public.patients.ssn", &[BindValue::Integer(8)]);
    let foreign = foreign.encrypt(b"123", &place).unwrap();
    // Exchanged values are told by rows read together: they lie in one block, with room for what moves beside them.
    for sql in [
        "UPDATE patients p SET ssn = o.ssn FROM patients o WHERE p.id IN (5, 6) AND o.id = 11 - p.id",
        "ALTER TABLE patients SET (fillfactor = 40)",
        "CLUSTER patients USING patients_pkey",
        "UPDATE patients SET notes = 'feels well' WHERE id = 11",
    ] {
        sqlx::query(sql).execute(&cluster.source).await.unwrap();
    }
    for (id, value) in [
        (3_i64, corrupt),
        (8, foreign),
        (9, keyless),
        (10, b"123-45-6789".to_vec()),
        (13, Vec::new()),
    ] {
        let update = sqlx::query("UPDATE patients SET ssn = $1 WHERE id = $2");
        update
            .bind(value)
            .bind(id)
            .execute(&cluster.source)
            .await
            .unwrap();
    }
    let plain = sqlx::query("UPDATE patients SET notes = $1 WHERE id = 12");
    let plain = plain.bind(encode_base64(b"plaintext in base64"));
    plain.execute(&cluster.source).await.unwrap();

    let _workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    let quarantined = quarantine_views(&cluster.services, &operator())
        .await
        .unwrap();
    let reasons: BTreeMap<String, String> = quarantined
        .iter()
        .map(|value| (value.row.clone(), value.reason.to_string()))
        .collect();
    let expected = [
        ("id=3", "unopened"),
        ("id=5", "wrong-context"),
        ("id=6", "wrong-context"),
        ("id=8", "other-keyring"),
        ("id=9", "missing-key"),
        ("id=10", "not-ciphertext"),
        ("id=11", "not-ciphertext"),
        ("id=12", "not-ciphertext"),
    ];
    let expected = expected.map(|(row, reason)| (row.to_owned(), reason.to_owned()));
    assert_eq!(reasons, BTreeMap::from(expected));
    assert_eq!(view.quarantined, 8);
    assert_eq!(view.moved, cluster.values() - 9);
    assert_eq!(cluster.under(2).await, view.moved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_in_the_middle_of_a_batch_hands_it_on() {
    let policy = Policy {
        batch_rows: 2_000,
        concurrency: 1,
        ..Policy::default()
    };
    let cluster = Cluster::of(10_000, policy).await;
    let _planners = [
        cluster.start(Worker::Scheduler),
        cluster.start(Worker::Rotator),
    ];
    let stopped = cluster.start(Worker::ReEncryptor);
    cluster.rotate().await;
    let leased = "SELECT count(*) FROM lease WHERE name LIKE 'batch/%'";
    until("a batch being worked on", async || {
        (cluster.count(leased).await > 0).then_some(())
    })
    .await;
    stopped.terminate().await;
    assert_eq!(
        cluster.count(leased).await,
        0,
        "nobody holds what an ended process left"
    );
    let _other = cluster.start(Worker::ReEncryptor);
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}
