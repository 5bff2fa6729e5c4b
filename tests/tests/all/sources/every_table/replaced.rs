//! What a certificate says is of the table that was protected, and of all that is in it, whatever people do to it meanwhile.

use std::time::Duration;

use rekey_domain::{Bind, KeyringPolicy, RotationState, Timing};
use rekey_operations::{TableConfig, release_column, resume_rotation};
use rekey_tests::support::{Engine, operator, short, until};

use super::clinic::{Clinic, Kind, column, table};

const PATIENTS: &str = "CREATE TABLE patients (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA);";
const VISITS: &str = "
    CREATE TABLE visits (n INT NOT NULL, id INT NOT NULL, ssn BYTEA, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (32);
    CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (32) TO (1000);";
/// Each seventh row has no value.
const ROWS: i64 = 63;

fn patients() -> Vec<TableConfig> {
    vec![table(
        "patients",
        "patients",
        vec![column("ssn", Bind::Row)],
    )]
}

async fn clinic(kind: Kind, sql: &str, name: &str, tables: Vec<TableConfig>) -> Clinic {
    let mut clinic = Clinic::on(kind, sql).await;
    clinic.policy = KeyringPolicy {
        timing: Timing {
            grace_period: Duration::from_secs(2),
            ..short().timing
        },
        batch_rows: 4,
        ..clinic.policy.clone()
    };
    clinic.protect(tables).await;
    let values = |n: i64| vec![("id", n.into())];
    clinic.fill(name, 1..=ROWS, values).await;
    clinic
}

/// As a migration does that leaves the old column for a while, or the old table as a backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_column_or_table_under_the_same_name_is_not_counted_for_what_was_protected() {
    let column = "ALTER TABLE patients RENAME COLUMN ssn TO ssn_old; ALTER TABLE patients ADD COLUMN ssn BYTEA";
    let whole = "ALTER TABLE patients RENAME TO patients_old; \
        CREATE TABLE patients (n INT NOT NULL, id INT, ssn BYTEA)";
    // What was in it is in another: the database knows the old one no more.
    let copied = "ALTER TABLE patients ADD COLUMN ssn_old BYTEA; UPDATE patients SET ssn_old = ssn; \
        ALTER TABLE patients DROP COLUMN ssn; ALTER TABLE patients ADD COLUMN ssn BYTEA";
    let again =
        "ALTER TABLE patients DROP COLUMN ssn; ALTER TABLE patients RENAME COLUMN ssn_old TO ssn";
    let back = [
        again,
        "DROP TABLE patients; ALTER TABLE patients_old RENAME TO patients",
        again,
    ];
    for kind in Kind::BOTH {
        for (replace, back) in [column, whole, copied].into_iter().zip(back) {
            let clinic = clinic(kind, PATIENTS, "patients", patients()).await;
            let engine = Engine::start(&clinic.workers);
            clinic.ask("phi").await;
            clinic.reaches("phi", RotationState::Grace).await;
            clinic.execute(replace).await;
            clinic.grant().await;
            let paused = until("the rotation on hold", async || {
                let view = clinic.latest("phi").await?;
                assert_ne!(view.state, RotationState::Completed, "{kind:?} {replace}");
                view.paused_because.is_some().then_some(view)
            })
            .await;
            let why = paused.paused_because.unwrap();
            assert!(why.contains("_old") || why.contains("was dropped"), "{why}");
            // Nor is it let go.
            let name = "clinic.patients.ssn".parse().unwrap();
            let (services, desired) = (clinic.services.clone(), clinic.desired());
            let released = release_column(&services, &desired, &name, false, &operator()).await;
            released.unwrap_err();
            clinic.execute(back).await;
            // The new one has to be said.
            let mut clinic = clinic;
            clinic.protect(patients()).await;
            resume_rotation(&services, paused.id, &operator())
                .await
                .unwrap();
            clinic.completes("phi").await;
            engine.stop().await;
        }
    }
}

/// The ranges that nobody read while it was away are read before anyone says that all were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_away_for_a_while_is_read_when_it_is_back() {
    let tables = vec![table("visits", "visits", vec![column("ssn", Bind::Row)])];
    let clinic = clinic(Kind::Postgres, VISITS, "visits", tables).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    clinic.reaches("phi", RotationState::Grace).await;
    // Under the new key already, so no census would find it; only opening does.
    clinic
        .execute(
            "UPDATE visits_2 SET ssn = set_byte(ssn, length(ssn) - 1, get_byte(ssn, length(ssn) - 1) # 255) WHERE id = 60",
        )
        .await;
    clinic
        .execute("ALTER TABLE visits DETACH PARTITION visits_2")
        .await;
    clinic.reaches("phi", RotationState::Verifying).await;
    clinic
        .execute("ALTER TABLE visits ATTACH PARTITION visits_2 FOR VALUES FROM (32) TO (1000)")
        .await;
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!(view.quarantined, 1, "{view:#?}");
}
