//! Triggers that change our updates, or keep them from rows: the rotation says so, and no value is lost.

use rekey_domain::{Bind, OnUpdate, QuarantineReason, RotationState, Triggers};
use rekey_operations::{quarantine_views, resume_rotation, retry_rotation};
use rekey_tests::support::{Engine, operator, until};

use super::clinic::{Clinic, Kind, column, keyring, table};

const PATIENTS: &str = "CREATE TABLE patients (n INT PRIMARY KEY, ssn TEXT);";

/// As many patients, in a table whose triggers may fire.
async fn clinic(kind: Kind, rows: i64) -> Clinic {
    let mut clinic = Clinic::on(kind, PATIENTS).await;
    let mut patients = table("patients", "patients", vec![column("ssn", Bind::Row)]);
    patients.on_update = OnUpdate {
        triggers: Some(Triggers::Fire),
        ..OnUpdate::default()
    };
    clinic.protect(vec![patients]).await;
    // All of them: rows whose number seven divides are NULL.
    let numbers = (1..)
        .filter(|n| n % 7 != 0)
        .take(usize::try_from(rows).unwrap());
    clinic.fill("patients", numbers, |_| Vec::new()).await;
    clinic
}

/// `apply` notes what is there; a trigger that comes later puts a rotation on hold by itself.
async fn make(clinic: &mut Clinic, kind: Kind, postgres: &str, sqlite: &str) {
    clinic
        .execute(match kind {
            Kind::Postgres => postgres,
            Kind::Sqlite => sqlite,
        })
        .await;
    let tables = clinic.tables().to_vec();
    clinic.try_protect(tables).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_rewrites_what_is_written_pauses_the_rotation_and_takes_no_value() {
    for kind in Kind::BOTH {
        let mut clinic = clinic(kind, 60).await;
        let (postgres, sqlite) = (
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN new.ssn := upper(new.ssn); RETURN new; END $$; \
             CREATE TRIGGER shout BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION shout()",
            "CREATE TRIGGER shout AFTER UPDATE OF ssn ON patients BEGIN \
             UPDATE patients SET ssn = upper(ssn) WHERE n = new.n; END",
        );
        make(&mut clinic, kind, postgres, sqlite).await;
        let before = clinic.dump().await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let paused = until("the rotation to pause", async || {
            clinic
                .latest("phi")
                .await
                .filter(|view| view.paused_because.is_some())
        })
        .await;
        let why = paused.paused_because.as_deref().unwrap();
        for part in ["patients", "trigger shout"] {
            assert!(why.contains(part), "{kind:?}: {why}");
        }
        // SQLite suppresses none.
        let advice = why.contains("triggers = \"suppress\"");
        assert_eq!(advice, matches!(kind, Kind::Postgres), "{why}");
        assert_eq!(clinic.dump().await, before, "{kind:?}");
        clinic
            .execute(match kind {
                Kind::Postgres => "DROP TRIGGER shout ON patients",
                Kind::Sqlite => "DROP TRIGGER shout",
            })
            .await;
        resume_rotation(&clinic.services, paused.id, &operator())
            .await
            .unwrap();
        let view = clinic.completes("phi").await;
        engine.stop().await;
        clinic.assert_moved("phi", &before, &view).await;
    }
}

/// Under another keyring, so that nobody reads it again in this rotation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_changes_a_column_beside_pauses_the_rotation_and_takes_no_value() {
    for kind in Kind::BOTH {
        let two = "CREATE TABLE patients (n INT PRIMARY KEY, ssn TEXT, notes TEXT);";
        let mut clinic = Clinic::on(kind, two).await;
        let mut notes = column("notes", Bind::Row);
        notes.keyring = keyring("other");
        let mut patients = table(
            "patients",
            "patients",
            vec![column("ssn", Bind::Row), notes],
        );
        patients.on_update.triggers = Some(Triggers::Fire);
        clinic.protect(vec![patients]).await;
        clinic.fill("patients", 1..=40, |_| Vec::new()).await;
        let (postgres, sqlite) = (
            "CREATE FUNCTION blank() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN new.notes := NULL; RETURN new; END $$; \
             CREATE TRIGGER blank BEFORE UPDATE OF ssn ON patients FOR EACH ROW EXECUTE FUNCTION blank()",
            "CREATE TRIGGER blank AFTER UPDATE OF ssn ON patients BEGIN \
             UPDATE patients SET notes = NULL WHERE n = new.n; END",
        );
        make(&mut clinic, kind, postgres, sqlite).await;
        let before = clinic.dump().await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let paused = until("the rotation to pause", async || {
            let view = clinic.latest("phi").await;
            view.filter(|view| view.paused_because.is_some())
        })
        .await;
        engine.stop().await;
        let why = paused.paused_because.unwrap();
        assert!(why.contains("trigger blank"), "{kind:?}: {why}");
        assert_eq!(clinic.dump().await, before, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_trigger_keeps_back_are_in_quarantine_and_the_others_are_moved() {
    for kind in Kind::BOTH {
        let mut clinic = clinic(kind, 200).await;
        let (postgres, sqlite) = (
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF old.n % 10 = 0 THEN RETURN NULL; END IF; RETURN new; END $$; \
             CREATE TRIGGER hold BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION hold()",
            "CREATE TRIGGER hold BEFORE UPDATE ON patients WHEN old.n % 10 = 0 BEGIN \
             SELECT RAISE(IGNORE); END",
        );
        make(&mut clinic, kind, postgres, sqlite).await;
        let held = clinic.texts("SELECT CAST(count(*) AS TEXT) FROM patients WHERE n % 10 = 0");
        let held: u64 = held.await[0].parse().unwrap();
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let view = clinic.reaches("phi", RotationState::Completed).await;
        engine.stop().await;
        assert_eq!(
            (view.moved, view.quarantined),
            (200 - held, held),
            "{kind:?}"
        );
        let left = quarantine_views(&clinic.services, &operator())
            .await
            .unwrap();
        assert_eq!(left.len() as u64, held);
        for value in left {
            assert_eq!(value.reason, QuarantineReason::NotWritten);
            assert!(value.detail.unwrap().contains("hold"));
        }
    }
}

/// As a damaged value can, that makes the server crash whenever it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_ends_the_connection_each_time_puts_the_rotation_on_hold() {
    let mut clinic = clinic(Kind::Postgres, 60).await;
    let ends = "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$; \
         CREATE TRIGGER ends BEFORE UPDATE ON patients FOR EACH ROW WHEN (old.n = 5) EXECUTE FUNCTION ends()";
    make(&mut clinic, Kind::Postgres, ends, "").await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let paused = until("the rotation to pause", async || {
        let view = clinic.latest("phi").await;
        view.filter(|view| view.paused_because.is_some())
    })
    .await;
    let why = paused.paused_because.unwrap();
    assert!(
        why.contains("4 times in a row the connection ended"),
        "{why}"
    );
    assert!(why.contains("patients"), "{why}");
    clinic.execute("DROP TRIGGER ends ON patients").await;
    resume_rotation(&clinic.services, paused.id, &operator())
        .await
        .unwrap();
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!((view.moved, view.quarantined), (60, 0));
}

/// What an attempt wrote before a constraint refused a row counts: nobody writes it a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_before_an_attempt_failed_is_on_the_certificate() {
    let mut clinic = Clinic::on(Kind::Postgres, PATIENTS).await;
    clinic.policy.batch_rows = 2_000;
    clinic.policy.retry_attempts = 1;
    clinic
        .protect(vec![table(
            "patients",
            "patients",
            vec![column("ssn", Bind::Row)],
        )])
        .await;
    let numbers = (1..).filter(|n| n % 7 != 0).take(1_200);
    clinic.fill("patients", numbers, |_| Vec::new()).await;
    clinic
        .execute("ALTER TABLE patients ADD CONSTRAINT held CHECK (n <> 1300) NOT VALID")
        .await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let failed = clinic.reaches("phi", RotationState::Failed).await;
    assert!(failed.moved > 1_000, "{failed:?}");
    clinic
        .execute("ALTER TABLE patients DROP CONSTRAINT held")
        .await;
    retry_rotation(&clinic.services, failed.id, &operator())
        .await
        .unwrap();
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!(view.moved, 1_200);
    assert_eq!(view.certificate.unwrap()["moved"], 1_200);
}
