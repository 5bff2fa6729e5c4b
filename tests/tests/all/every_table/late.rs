//! Columns that are protected while a rotation is about to end: nothing is said of what nobody looked at.

use rekey_domain::Bind;
use rekey_store::ConnectionTrait;

use super::clinic::{Clinic, Kind, column, table};
use rekey_tests::support::{Engine, until};

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
