//! A table that grows faster than it is swept: the plan ends where the table ended, and so does the rotation.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use rekey_domain::{Bind, Found, RotationState};
use rekey_envelope::DataKey;
use rekey_operations::{census, key_views};
use rekey_tests::support::{Engine, open, operator, until};

use super::clinic::{Clinic, Kind, Values, column, keyring, table};

const AT_FIRST: i64 = 200;
/// So that the rotation is the slower of the two.
const MOVED_A_SECOND: u32 = 200;
const AT_ONCE: i64 = 20;
const STALE_AT_ONCE: i64 = 3;
const BETWEEN: Duration = Duration::from_millis(20);

/// An application that inserts and inserts, until it is told to stop.
struct Writer<'a> {
    clinic: &'a Clinic,
    last: &'a AtomicI64,
    stop: &'a AtomicBool,
}

impl Writer<'_> {
    /// Under `stale`, where it has not heard of the new key yet.
    async fn insert(&self, rows: i64, stale: Option<&DataKey>) {
        let first = self.last.fetch_add(rows, Ordering::SeqCst) + 1;
        let rows = (first..first + rows).map(|n| {
            let values: Values = vec![("n".to_owned(), n.into()), ("id".to_owned(), (-n).into())];
            (n, values)
        });
        self.clinic
            .insert_all("patients", "patients", rows.collect(), stale)
            .await;
    }

    async fn write(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            self.insert(AT_ONCE, None).await;
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_grows_faster_than_it_is_swept_is_rotated_all_the_same() {
    for kind in Kind::BOTH {
        let sql =
            "CREATE TABLE patients (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA, notes TEXT);";
        let mut clinic = Clinic::on(kind, sql).await;
        clinic.limits.rows_per_second = NonZeroU32::new(MOVED_A_SECOND);
        clinic.policy.batch_rows = 100;
        clinic.policy.timing.grace_period = Duration::from_secs(1);
        let columns = vec![column("ssn", Bind::Row), column("notes", Bind::Column)];
        clinic
            .protect(vec![table("patients", "patients", columns)])
            .await;
        let (last, stop) = (AtomicI64::new(0), AtomicBool::new(false));
        let writer = Writer {
            clinic: &clinic,
            last: &last,
            stop: &stop,
        };
        while last.load(Ordering::SeqCst) < AT_FIRST {
            writer.insert(AT_ONCE, None).await;
        }
        let old = key(&clinic, 1).await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let stale = async {
            clinic.reaches("phi", RotationState::ReEncrypting).await;
            let old = clinic
                .services
                .client
                .decryption_key(&keyring("phi"), old)
                .await
                .unwrap();
            let (before, mut rows) = (last.load(Ordering::SeqCst), 0);
            // It refreshes its key within the grace period.
            until("the end of the batches", async || {
                writer.insert(STALE_AT_ONCE, Some(&old)).await;
                tokio::time::sleep(BETWEEN).await;
                rows += STALE_AT_ONCE;
                let view = clinic.latest("phi").await?;
                (view.state != RotationState::ReEncrypting).then_some(())
            })
            .await;
            (rows, last.load(Ordering::SeqCst) - before)
        };
        let ends = async {
            let (stale, while_moved) = stale.await;
            let view = clinic.completes("phi").await;
            let grown = last.load(Ordering::SeqCst);
            // Whoever writes now writes on.
            until("more rows", async || {
                (last.load(Ordering::SeqCst) > grown).then_some(())
            })
            .await;
            stop.store(true, Ordering::SeqCst);
            (stale, while_moved, view)
        };
        let ((stale, while_moved, view), ()) = tokio::join!(ends, writer.write());
        engine.stop().await;
        assert!(
            while_moved > AT_FIRST,
            "{kind:?}: only {while_moved} rows came in beside"
        );
        assert!(view.passes > 0, "stale rows take a sweep");
        let store = open(clinic.disks.state("store.db"), false).await;
        let swept = "SELECT coalesce(sum(moved), 0) FROM batch WHERE pass > 0";
        let swept: i64 = sqlx::query_scalar(swept).fetch_one(&store).await.unwrap();
        assert!(
            swept >= stale,
            "{kind:?}: {swept} values of {stale} rows were swept"
        );
        assert_all_new(&clinic, last.load(Ordering::SeqCst)).await;
    }
}

async fn key(clinic: &Clinic, version: u32) -> rekey_domain::KeyId {
    let keys = key_views(&clinic.services, &operator()).await.unwrap();
    let key = keys
        .iter()
        .find(|view| view.key.to_string() == format!("phi/{version}"));
    key.unwrap().key_id
}

async fn assert_all_new(clinic: &Clinic, rows: i64) {
    let new = Found::Key(key(clinic, 2).await);
    for row in census(&clinic.services, &operator()).await.unwrap() {
        assert!(row.column.source != "clinic" || row.found == new, "{row:?}");
    }
    clinic.services.client.keyring_changed(&keyring("phi"));
    let columns = clinic.columns_of("patients").await;
    let dump = clinic.dump().await;
    assert_eq!(dump.len() as i64, rows);
    for (place, row) in &dump {
        for column in &columns {
            if let Some(value) = &row[&column.spec.name.column] {
                clinic.assert_says(column, place, value).await;
            }
        }
    }
}
