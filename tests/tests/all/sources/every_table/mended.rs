//! Values in quarantine whose bytes stay in the column: resolved once they open wherever they stand, and not before.

use std::collections::BTreeSet;

use rekey_domain::Bind;
use rekey_operations::{Retry, RotationView, quarantine_views, retry_quarantined, sweep_keyring};
use rekey_tests::support::{Engine, operator, until};

use super::clinic::{Clinic, Kind, column, keyring, table};

const PLAIN: &str = "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA)";
/// Rows of other numbers are in another part.
const IN_PARTS: &str =
    "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA) PARTITION BY RANGE (n);
    CREATE TABLE patients_1 PARTITION OF patients FOR VALUES FROM (0) TO (25);
    CREATE TABLE patients_2 PARTITION OF patients FOR VALUES FROM (25) TO (1000);
    CREATE TABLE patients_3 PARTITION OF patients FOR VALUES FROM (1000) TO (9000)";

const EACH: [(Kind, &str); 3] = [
    (Kind::Postgres, PLAIN),
    (Kind::Postgres, IN_PARTS),
    (Kind::Sqlite, PLAIN),
];

async fn of_forty(kind: Kind, sql: &str) -> Clinic {
    let mut clinic = Clinic::on(kind, sql).await;
    let ssn = vec![column("ssn", Bind::Row)];
    clinic
        .protect(vec![table("patients", "patients", ssn)])
        .await;
    clinic.fill("patients", 1..=40, |_| Vec::new()).await;
    clinic
}

/// What the latest rotation came to once it has ended.
async fn ended(clinic: &Clinic, after: Option<uuid::Uuid>) -> RotationView {
    until("a sweep to end", async || {
        let view = clinic.latest("phi").await?;
        assert_eq!(view.failure, None);
        let is_new = Some(view.id) != after;
        (is_new && view.ended_at.is_some()).then_some(view)
    })
    .await
}

async fn sweep(clinic: &Clinic) -> RotationView {
    let before = clinic.latest("phi").await.map(|view| view.id);
    sweep_keyring(&clinic.services, &keyring("phi"), &[], &operator())
        .await
        .unwrap();
    ended(clinic, before).await
}

async fn retry(clinic: &Clinic) -> RotationView {
    let before = clinic.latest("phi").await.map(|view| view.id);
    retry_quarantined(&clinic.services, &Retry::All, &operator())
        .await
        .unwrap();
    ended(clinic, before).await
}

async fn in_quarantine(clinic: &Clinic) -> usize {
    let open = quarantine_views(&clinic.services, &operator()).await;
    open.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_opens_wherever_it_stands_leaves_quarantine_at_a_retry() {
    for (kind, sql) in EACH {
        let clinic = of_forty(kind, sql).await;
        let before = clinic.dump().await;
        let engine = Engine::start(&clinic.workers);
        // A copy, a row with the value of another, and rows that are renumbered.
        for sql in [
            "INSERT INTO patients SELECT 1000, ssn FROM patients WHERE n = 2",
            "UPDATE patients SET ssn = (SELECT ssn FROM patients WHERE n = 3) WHERE n = 2",
            "UPDATE patients SET n = n + 1000 WHERE n BETWEEN 30 AND 34",
        ] {
            clinic.execute(sql).await;
        }
        let view = sweep(&clinic).await;
        assert_eq!(view.quarantined, 7, "{kind:?}");
        for sql in [
            "UPDATE patients SET ssn = (SELECT ssn FROM patients WHERE n = 1000) WHERE n = 2",
            "DELETE FROM patients WHERE n = 1000",
            "UPDATE patients SET n = n - 1000 WHERE n > 1000",
        ] {
            clinic.execute(sql).await;
        }
        let view = retry(&clinic).await;
        engine.stop().await;
        assert_eq!(view.quarantined, 0, "{kind:?}");
        assert_eq!(in_quarantine(&clinic).await, 0, "{kind:?} {sql}");
        assert_eq!(clinic.dump().await, before, "nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_which_one_copy_does_not_open_stays_in_quarantine() {
    for (kind, sql) in EACH {
        let clinic = of_forty(kind, sql).await;
        let engine = Engine::start(&clinic.workers);
        for n in 1001..1004 {
            clinic
                .execute(&format!(
                    "INSERT INTO patients SELECT {n}, ssn FROM patients WHERE n = 1"
                ))
                .await;
        }
        assert_eq!(sweep(&clinic).await.quarantined, 3);
        clinic.execute("DELETE FROM patients WHERE n = 1001").await;
        let view = retry(&clinic).await;
        assert_eq!(view.quarantined, 2, "{kind:?}");
        let left = quarantine_views(&clinic.services, &operator())
            .await
            .unwrap();
        let rows: BTreeSet<_> = left.iter().map(|value| value.row.clone()).collect();
        assert_eq!((left.len(), rows.len()), (2, 2), "{kind:?} {left:?}");
        clinic.execute("DELETE FROM patients WHERE n > 1000").await;
        retry(&clinic).await;
        engine.stop().await;
        assert_eq!(in_quarantine(&clinic).await, 0, "{kind:?} {sql}");
    }
}
