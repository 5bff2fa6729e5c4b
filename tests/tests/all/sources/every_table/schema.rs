//! A SQLite file whose schema changes: pages and places are given again, and only harmless changes hold nothing up.

use std::time::Duration;

use rekey_domain::{Bind, KeyringPolicy, RotationState, Timing};
use rekey_operations::{TableConfig, census, release_column};
use rekey_tests::support::{Engine, open, operator, short, until};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::clinic::{Clinic, Database, Kind, column, keyring, table};

const PATIENTS: &str = "CREATE TABLE patients (n INT NOT NULL, id INTEGER PRIMARY KEY, ssn BYTEA)";
/// Each seventh row has no value.
const ROWS: i64 = 63;
/// Of a column and its copy.
const EXCHANGE: &str = "ALTER TABLE patients RENAME COLUMN ssn TO t; \
    ALTER TABLE patients RENAME COLUMN copy TO ssn; ALTER TABLE patients RENAME COLUMN t TO copy";

fn patients() -> Vec<TableConfig> {
    vec![table(
        "patients",
        "patients",
        vec![column("ssn", Bind::Row)],
    )]
}

async fn clinic(sql: &str, tables: Vec<TableConfig>) -> Clinic {
    let mut clinic = Clinic::on(Kind::Sqlite, sql).await;
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
    clinic.fill("patients", 1..=ROWS, values).await;
    clinic
}

/// Until it is on hold; gives why.
async fn held(clinic: &Clinic) -> String {
    until("the rotation on hold", async || {
        let view = clinic.latest("phi").await?;
        assert_ne!(view.state, RotationState::Completed);
        view.paused_because
    })
    .await
}

async fn released(clinic: &Clinic) -> Result<(), String> {
    let (name, desired) = ("clinic.patients.ssn".parse().unwrap(), clinic.desired());
    let released = release_column(&clinic.services, &desired, &name, false, &operator()).await;
    released.map(drop).map_err(|error| error.to_string())
}

/// Neither is a certificate given for the one that has the name, nor is what is left let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_or_a_place_that_is_given_again_is_not_the_column() {
    let table = format!(
        "ALTER TABLE patients RENAME TO patients_old; DROP TABLE first; {PATIENTS}; VACUUM"
    );
    let moved = table.replace("; VACUUM", "");
    let place = "ALTER TABLE patients RENAME COLUMN ssn TO ssn_old; \
        ALTER TABLE patients DROP COLUMN junk; ALTER TABLE patients ADD COLUMN ssn BYTEA"
        .to_owned();
    let first = format!("CREATE TABLE first (a); {PATIENTS}");
    for (sql, taken) in [
        (first.clone(), table),
        (format!("PRAGMA auto_vacuum = FULL; VACUUM; {first}"), moved),
        (PATIENTS.replace("ssn", "junk TEXT, ssn"), place),
    ] {
        let clinic = clinic(&sql, patients()).await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        clinic.reaches("phi", RotationState::Grace).await;
        clinic.execute(&taken).await;
        let why = held(&clinic).await;
        assert!(why.contains("_old"), "{why}");
        let why = released(&clinic).await.unwrap_err();
        assert!(why.contains("_old"), "{why}");
        census(&clinic.services, &operator()).await.unwrap_err();
        engine.stop().await;
    }
}

/// Nor is one that another keyring's column has the name of now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_a_column_of_another_keyring_is_not_covered_by_it() {
    let mut others = column("email", Bind::Row);
    others.keyring = keyring("other");
    let mut tables = patients();
    tables[0].columns.push(others);
    let clinic = clinic(&PATIENTS.replace("ssn", "email BYTEA, ssn"), tables).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    clinic.reaches("phi", RotationState::Grace).await;
    let taken = EXCHANGE.replace("copy", "email");
    clinic
        .execute(&format!("UPDATE patients SET email = NULL; {taken}"))
        .await;
    let why = held(&clinic).await;
    assert!(why.contains("patients.email"), "{why}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_nothing_of_ours_elsewhere_holds_nothing_up() {
    let clinic = clinic(PATIENTS, patients()).await;
    let before = clinic.dump().await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    clinic.reaches("phi", RotationState::Grace).await;
    let harmless = "CREATE TABLE other (a INT); CREATE INDEX by_n ON patients (n); ANALYZE; VACUUM";
    clinic.execute(harmless).await;
    clinic.reaches("phi", RotationState::Verifying).await;
    clinic.execute("DROP TABLE other").await;
    let view = clinic.completes("phi").await;
    engine.stop().await;
    clinic.assert_moved("phi", &before, &view).await;
    clinic
        .execute("UPDATE patients SET ssn = NULL; CREATE TABLE other (a INT)")
        .await;
    released(&clinic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_declared_or_deleted_before_a_changed_schema_is_noted() {
    let mut clinic = clinic(PATIENTS, patients()).await;
    let copied = "ALTER TABLE patients ADD COLUMN copy BYTEA; UPDATE patients SET copy = ssn";
    clinic.execute(copied).await;
    census(&clinic.services, &operator()).await.unwrap_err();
    for relation in ["patients", "main.patients"] {
        let mut tables = patients();
        tables[0].relation = relation.to_owned();
        let why = clinic.refusal(tables).await;
        assert!(why.contains("patients.copy holds ciphertext"), "{why}");
    }
    let mut tables = patients();
    tables[0].columns.push(column("copy", Bind::Row));
    clinic.protect(tables).await;
    census(&clinic.services, &operator()).await.unwrap();
}

/// Columns are exchanged while the last pass reads, and back before its census.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_opened_is_what_the_column_holds() {
    let clinic = clinic(&PATIENTS.replace("ssn", "copy BYTEA, ssn"), patients()).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    clinic.reaches("phi", RotationState::Grace).await;
    let Database::Sqlite(_, application) = &clinic.database else {
        unreachable!("it is on SQLite");
    };
    let mut session = application.acquire().await.unwrap();
    let elsewhere = "(SELECT copy FROM patients WHERE n = 22)";
    let damage = format!(
        "BEGIN IMMEDIATE; UPDATE patients SET copy = ssn; \
         UPDATE patients SET ssn = {elsewhere} WHERE n <= 20 AND ssn IS NOT NULL; {EXCHANGE}; COMMIT"
    );
    execute(&mut session, &damage).await;
    // Nothing is counted before the lock is free once.
    execute(&mut session, "BEGIN IMMEDIATE").await;
    the_last_pass_has_read(&clinic).await;
    let back = format!("{EXCHANGE}; UPDATE patients SET copy = NULL; COMMIT");
    execute(&mut session, &back).await;
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!(view.quarantined, 18, "{view:#?}");
}

async fn execute(session: &mut SqliteConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await;
    done.unwrap();
}

async fn the_last_pass_has_read(clinic: &Clinic) {
    let store = open(clinic.disks.state("store.db"), false).await;
    let done = "SELECT count(*) > 0 AND min(batch.state = 'DONE') FROM rotation JOIN batch \
        ON batch.rotation_id = rotation.id AND batch.pass = rotation.pass \
        WHERE rotation.state = 'VERIFYING' AND rotation.planned";
    until("the pass to be read", async || {
        let done: Option<bool> = sqlx::query_scalar(done).fetch_one(&store).await.unwrap();
        done.filter(|done| *done)
    })
    .await;
    store.close().await;
}
