//! What stands beside protected columns: rules, keys of other tables, computed columns. All of it stays.

use std::collections::BTreeMap;

use rekey_domain::{Algorithm, Bind, RotationState};
use rekey_operations::{resume_rotation, retry_rotation};
use rekey_tests::support::{Engine, operator, until};

use super::clinic::{Clinic, Dumped, Kind, column, listed, table};

/// A table with everything around it that an update could set off.
const PATIENTS: &str = "
    CREATE TABLE wards (id INT PRIMARY KEY, label TEXT);
    INSERT INTO wards VALUES (0, 'east'), (1, 'west'), (2, 'south');
    CREATE TABLE patients (
        n INT NOT NULL UNIQUE,
        id INT PRIMARY KEY,
        ward INT NOT NULL REFERENCES wards (id) ON UPDATE CASCADE ON DELETE CASCADE,
        name TEXT NOT NULL DEFAULT 'Ana',
        born TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        weight REAL DEFAULT 71.3,
        doubled INT GENERATED ALWAYS AS (id * 2) STORED,
        ssn BYTEA NOT NULL CHECK (length(ssn) > 30),
        ssn_length INT GENERATED ALWAYS AS (length(ssn)) STORED,
        notes TEXT,
        notes_start TEXT GENERATED ALWAYS AS (substr(notes, 1, 20)) STORED,
        UNIQUE (ssn), CHECK (notes IS NULL OR length(notes) > 40));
    CREATE INDEX by_notes ON patients (notes, name);
    CREATE TABLE visits (
        patient INT REFERENCES patients (id) ON UPDATE CASCADE ON DELETE CASCADE, day TEXT DEFAULT 'today');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_defaults_and_keys_of_other_tables_stay_as_they_are() {
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, PATIENTS).await;
        let columns = vec![column("ssn", Bind::Row), column("notes", listed(&["id"]))];
        clinic
            .protect(vec![table("patients", "patients", columns)])
            .await;
        let values = |n: i64| vec![("id", (1_000 + n).into()), ("ward", (n % 3).into())];
        clinic.fill("patients", 1..=60, values).await;
        clinic
            .execute("INSERT INTO visits (patient) SELECT id FROM patients")
            .await;
        let visits = "SELECT CAST(patient AS TEXT) FROM visits ORDER BY 1";
        let visited = clinic.texts(visits).await;
        // The database computes this one from ciphertext, so it follows.
        clinic.computed = vec!["notes_start"];
        let before = clinic.dump().await;
        clinic.rotates().await;
        assert_eq!(clinic.texts(visits).await, visited);
        let after = clinic.dump().await;
        let computed = |rows: &BTreeMap<(String, i64), Dumped>| {
            let computed = rows.values().map(|row| row["notes_start"].clone());
            computed.collect::<Vec<_>>()
        };
        assert_ne!(computed(&before), computed(&after));
        let starts = "SELECT count(*) FROM patients WHERE notes_start = substr(notes, 1, 20) OR notes IS NULL";
        assert_eq!(
            clinic
                .texts(&starts.replace("count(*)", "CAST(count(*) AS TEXT)"))
                .await,
            ["60"]
        );
    }
}

/// The other table's value would not move along, or would be moved by a cascade.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_a_foreign_key_ties_to_another_table_is_refused_with_advice() {
    let sql = "CREATE TABLE cards (n INT PRIMARY KEY, token BYTEA UNIQUE, ssn BYTEA); \
               CREATE TABLE uses (n INT PRIMARY KEY, ssn BYTEA, \
                   token BYTEA REFERENCES cards (token) ON UPDATE CASCADE);";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        for name in ["cards", "uses"] {
            let of = |protected| vec![table(name, name, vec![column(protected, Bind::Row)])];
            let said = clinic.refusal(of("token")).await;
            let place = format!("column clinic.{name}.token");
            for part in [&*place, "uses ties it", "drop the foreign key"] {
                assert!(said.contains(part), "{said}");
            }
            clinic.protect(of("ssn")).await;
        }
    }
}

/// The server refuses every update of it, so a batch could only fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_published_without_a_replica_identity_is_refused_and_a_rotation_waits() {
    let sql =
        "CREATE TABLE log (ward INT NOT NULL, n INT NOT NULL, line BYTEA) PARTITION BY LIST (ward);
        CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
        CREATE TABLE \"Log 2\" PARTITION OF log FOR VALUES IN (2);
        ALTER TABLE log_1 REPLICA IDENTITY FULL;";
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let mut log = table("log", "log", vec![column("line", Bind::Column)]);
    log.on_update.publications_accepted = true;
    clinic.protect(vec![log.clone()]).await;
    let publish = "CREATE PUBLICATION lake FOR TABLE log WITH (publish_via_partition_root)";
    clinic.administer(publish).await;
    let remedy = "ALTER TABLE public.\"Log 2\" REPLICA IDENTITY FULL";
    let said = clinic.refusal(vec![log.clone()]).await;
    assert!(
        said.contains("clinic.log") && said.contains(remedy),
        "{said}"
    );

    let values = |n: i64| vec![("ward", (n % 2 + 1).into())];
    clinic.fill("log", 1..=40, values).await;
    let before = clinic.dump().await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let view = until("the rotation to wait", async || {
        let view = clinic.latest("phi").await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = view.paused_because.unwrap();
    assert!(why.contains("clinic.log") && why.contains(remedy), "{why}");
    clinic.execute(remedy).await;
    resume_rotation(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    let view = clinic.completes("phi").await;
    engine.stop().await;
    clinic.assert_moved("phi", &before, &view).await;
}

/// A key of another algorithm makes longer values. What the database refuses is a person's to mend;
/// until then every row can be read, and what was mended goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_refuses_a_longer_value_is_one_clear_failure() {
    let with = |rule: &str| format!("(n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA {rule});");
    let sql = format!(
        "CREATE TABLE patients {}",
        with("CHECK (length(ssn) < 100)")
    );
    // As SQLite drops a constraint.
    let mended = format!(
        "CREATE TABLE mended {} INSERT INTO mended SELECT * FROM patients; DROP TABLE patients; \
         ALTER TABLE mended RENAME TO patients",
        with("")
    );
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, &sql).await;
        clinic
            .protect(vec![table(
                "patients",
                "patients",
                vec![column("ssn", Bind::Row)],
            )])
            .await;
        let values = |n: i64| vec![("id", n.into())];
        clinic.fill("patients", 1..=30, values).await;
        // GCM adds 33 bytes, CBC at least 54. Only the longest values are too long.
        let before = clinic.dump().await;
        clinic.algorithm = Algorithm::Aes256Cbc;
        clinic
            .protect(vec![table(
                "patients",
                "patients",
                vec![column("ssn", Bind::Row)],
            )])
            .await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let view = clinic.reaches("phi", RotationState::Failed).await;
        let why = view.failure.clone().unwrap();
        for part in [
            "patients",
            "the database refused the update",
            "a CHECK constraint",
        ] {
            assert!(why.contains(part), "{why}");
        }
        match kind {
            Kind::Postgres => {
                clinic
                    .execute("ALTER TABLE patients DROP CONSTRAINT patients_ssn_check")
                    .await
            }
            Kind::Sqlite => clinic.execute(&mended).await,
        }
        retry_rotation(&clinic.services, view.id, &operator())
            .await
            .unwrap();
        let view = clinic.completes("phi").await;
        engine.stop().await;
        clinic.assert_moved("phi", &before, &view).await;
    }
}
