//! Columns that are protected while a rotation is about to end: nothing is said of what nobody looked at.

use rekey_domain::{Bind, RotationState};
use rekey_operations::quarantine_views;
use rekey_store::ConnectionTrait;
use rekey_tests::support::{Engine, operator, until};

use super::clinic::{Clinic, Kind, column, table};

/// Back to where all was counted and nothing was said yet, as a process leaves it that dies there.
const COUNTED: &str = "UPDATE rotation SET state = 'VERIFYING', ended_at = NULL, certificate = NULL, \
    certificate_jws = NULL, certificate_due = NULL, resend_at = 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_protected_after_the_census_is_read_and_counted_before_anything_is_said_of_it()
 {
    for kind in Kind::BOTH {
        let sql = "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA, note BYTEA); \
                   CREATE TABLE archive (n INT PRIMARY KEY, ssn BYTEA);";
        let mut clinic = Clinic::on(kind, sql).await;
        let of = |names: &[&str]| names.iter().map(|name| column(name, Bind::Row)).collect();
        clinic
            .protect(vec![table("patients", "patients", of(&["ssn"]))])
            .await;
        clinic.fill("patients", 1..=15, |_| Vec::new()).await;
        // What nobody can open, in the same rows and in a table of its own.
        let spoilt = match kind {
            Kind::Postgres => "'plain'::bytea",
            Kind::Sqlite => "CAST('plain' AS BLOB)",
        };
        clinic
            .execute(&format!("UPDATE patients SET note = {spoilt}"))
            .await;
        clinic
            .execute(&format!(
                "INSERT INTO archive SELECT n, {spoilt} FROM patients"
            ))
            .await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let view = clinic.completes("phi").await;
        engine.stop().await;
        let db = clinic.services.store.db();
        db.execute_unprepared(COUNTED).await.unwrap();
        clinic
            .protect(vec![
                table("patients", "patients", of(&["ssn", "note"])),
                table("archive", "archive", of(&["ssn"])),
            ])
            .await;
        let engine = Engine::start(&clinic.workers);
        let again = until("the rotation to end again", async || {
            let again = clinic.latest("phi").await?;
            again.ended_at.is_some().then_some(again)
        })
        .await;
        engine.stop().await;
        assert_eq!(again.id, view.id);
        let certificate = again.certificate.unwrap();
        assert_eq!(certificate["quarantined"], 30, "{kind:?}: {certificate}");
        let counted = certificate["census_after"].as_array().unwrap();
        for column in ["clinic.patients.note", "clinic.archive.ssn"] {
            let mut lines = counted.iter();
            let line = lines.find(|line| line["column"] == column);
            assert_eq!(
                line.map(|line| &line["rows"]),
                Some(&15.into()),
                "{certificate}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_elsewhere_after_the_census_is_read_and_counted_there_before_anything_is_said()
 {
    let sql = "CREATE TABLE patients_all (n INT PRIMARY KEY, ssn BYTEA) PARTITION BY RANGE (n); \
               CREATE TABLE patients PARTITION OF patients_all FOR VALUES FROM (0) TO (100); \
               CREATE TABLE archive PARTITION OF patients_all FOR VALUES FROM (100) TO (200);";
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let of = |relation: &str| vec![table("patients", relation, vec![column("ssn", Bind::Row)])];
    clinic.protect(of("patients")).await;
    clinic.fill("patients", 1..=15, |_| Vec::new()).await;
    // As an application wrote them that knows the table by its other name.
    clinic
        .fill_part("patients_all", "patients", 101..=115, |_| Vec::new())
        .await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let first = clinic.completes("phi").await;
    engine.stop().await;
    let db = clinic.services.store.db();
    db.execute_unprepared(COUNTED).await.unwrap();

    clinic.protect(of("patients_all")).await;
    let engine = Engine::start(&clinic.workers);
    let again = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!(again.id, first.id);
    assert_eq!(again.moved, 2 * first.moved, "those of the archive too");
}

/// As a row leaves it that moves from one part to another while a pass reads both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_was_met_at_two_places_is_counted_where_it_stands() {
    for kind in Kind::BOTH {
        let sql = "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA);";
        let mut clinic = Clinic::on(kind, sql).await;
        clinic
            .protect(vec![table(
                "patients",
                "patients",
                vec![column("ssn", Bind::Row)],
            )])
            .await;
        clinic.fill("patients", 1..=15, |_| Vec::new()).await;
        let swapped =
            "UPDATE patients SET ssn = (SELECT o.ssn FROM patients o WHERE o.n = 2) WHERE n = 1";
        clinic.execute(swapped).await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let view = clinic.reaches("phi", RotationState::Completed).await;
        engine.stop().await;
        assert_eq!(view.quarantined, 1);

        let db = clinic.services.store.db();
        for sql in [
            COUNTED,
            "DELETE FROM census WHERE pass > 0",
            "INSERT INTO quarantine (id, rotation_id, pass, column_id, row_key, found_key_id, reason, found_at) \
             SELECT randomblob(16), rotation_id, pass, column_id, replace(row_key, ' ', ' 9'), found_key_id, reason, \
                 found_at FROM quarantine",
        ] {
            db.execute_unprepared(sql).await.unwrap();
        }
        let engine = Engine::start(&clinic.workers);
        let again = clinic.reaches("phi", RotationState::Completed).await;
        engine.stop().await;
        assert_eq!((again.passes, again.quarantined), (view.passes, 1));
        assert_eq!(again.certificate.unwrap()["quarantined"], 1, "{kind:?}");
        let open = quarantine_views(&clinic.services, &operator())
            .await
            .unwrap();
        assert_eq!(open.len(), 1, "what is not there needs nobody");
    }
}
