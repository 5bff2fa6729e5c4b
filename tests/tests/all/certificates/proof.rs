//! What a completed rotation rests on: who was open at the count, what was opened, and which values were left.

use std::time::Duration;

use rekey_domain::{KeyringPolicy, QuarantineReason, RotationState, Timing};
use rekey_operations::{Report, quarantine_views, report_compromise, status};
use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};

use crate::sources::postgres_source::{ACCEPTED, Clinic as PostgresClinic};

/// A grace period in which a test can do something.
fn patient() -> KeyringPolicy {
    KeyringPolicy {
        timing: Timing {
            grace_period: Duration::from_secs(2),
            ..short().timing
        },
        ..short()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_open_transactions_and_takes_nothing_off_by_number() {
    let clinic = PostgresClinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 60).await;
    // Three good rows under the old key that come late, and three that cannot be opened.
    clinic
        .execute(
            "CREATE TABLE late AS SELECT * FROM visits_1 WHERE ctid IN ('(0,5)', '(0,6)', '(0,7)');
             DELETE FROM visits_1 WHERE id IN (SELECT id FROM late);
             UPDATE visits_1 SET finding = 'penicillin' WHERE ctid IN ('(0,2)', '(0,3)', '(0,4)')",
        )
        .await;
    let mut open = clinic.application.begin().await.unwrap();
    sqlx::query(r#"INSERT INTO "Visits" SELECT * FROM late"#)
        .execute(&mut *open)
        .await
        .unwrap();
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    let view = until("a rotation that waits", async || {
        let view = clinic.rotation().await?;
        assert_ne!(view.state, RotationState::Completed, "it did not wait");
        let why = view.waiting.first()?;
        // Workers that have just been started are no reason.
        (!why.starts_with("no ")).then_some(view)
    })
    .await;
    assert_eq!(view.state, RotationState::Verifying);
    assert!(view.waiting[0].contains("process"), "{:?}", view.waiting);
    assert_eq!(view.quarantined, 3);

    // As many are mended as come: nothing is to be left of either.
    clinic
        .execute("DELETE FROM visits_1 WHERE finding = 'penicillin'")
        .await;
    open.commit().await.unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    let certificate = view.certificate.unwrap();
    assert_eq!(certificate["quarantined"], 0, "{certificate}");
    assert!(certificate["passes"].as_u64().unwrap() > 2, "{certificate}");
    assert_eq!(view.waiting, [""; 0]);
    assert_eq!(clinic.assert_rotated().await, 57);
    let open = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    assert!(open.is_empty(), "{open:?}");
}

/// Whoever was writing when the key was reported is no forger: the late pass waits for it, and moves what it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_waits_for_who_was_writing_before_it_leaves_anything() {
    let clinic = PostgresClinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 60).await;
    let take = "CREATE TABLE late AS SELECT * FROM visits_1 WHERE ctid IN ('(0,5)', '(0,6)'); \
        DELETE FROM visits_1 WHERE id IN (SELECT id FROM late)";
    clinic.execute(take).await;
    let mut open = clinic.application.begin().await.unwrap();
    let late = sqlx::query(r#"INSERT INTO "Visits" SELECT * FROM late"#);
    late.execute(&mut *open).await.unwrap();
    let engine = Engine::start(&clinic.workers);
    let report = Report {
        key: "phi/1".parse().unwrap(),
        reason: "it was in a paste".to_owned(),
        since: None,
    };
    let reported = report_compromise(&clinic.workers, &report, &operator()).await;
    let waiting = until("a pass that waits", async || {
        let view = clinic.rotation().await?;
        let waits = |why: &String| why.contains("process");
        view.waiting.iter().any(waits).then_some(view)
    })
    .await;
    assert_eq!(waiting.state, RotationState::Verifying);
    open.commit().await.unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(Some(view.id), reported.unwrap().rotation);
    assert_eq!(view.quarantined, 0);
    assert!(view.moved > waiting.moved, "what came late is moved");
    assert_eq!(clinic.assert_rotated().await, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_is_opened_whatever_its_first_bytes_say() {
    let clinic = Deployment::with(60, patient()).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.reaches(&phi(), RotationState::Grace).await;
    // All are under the new key by now. The first bytes stay, in one the length too.
    clinic
        .in_source(
            "UPDATE patients SET \
             notes = iif(id = 3, substr(notes, 1, 7) || ' plain text', notes), \
             ssn = iif(id = 5, CAST(substr(ssn, 1, 30) || x'00' || substr(ssn, 32) AS BLOB), ssn) \
             WHERE id IN (3, 5)",
        )
        .await;
    let view = clinic.completes().await;
    engine.stop().await;
    let mut left: Vec<_> = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap()
        .into_iter()
        .map(|value| (value.row, value.reason))
        .collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].0.starts_with("patients rowid 3"), "{left:?}");
    assert_eq!(left[0].1, QuarantineReason::NotCiphertext);
    assert!(left[1].0.starts_with("patients rowid 5"), "{left:?}");
    assert_eq!(left[1].1, QuarantineReason::Unopened);
    let certificate = view.certificate.unwrap();
    assert_eq!(certificate["quarantined"], 2);
    assert_eq!(certificate["opened"], clinic.values() - 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_under_a_key_that_lost_its_material_are_no_quarantine_and_fail_the_rotation() {
    let clinic = Deployment::of(20).await;
    clinic
        .in_store("UPDATE key SET wrapped = NULL WHERE version = 1 AND keyring_id = (SELECT id FROM keyring WHERE name = 'phi')")
        .await;
    let workers = clinic.process("rotator").await;
    let engine = Engine::start(&workers);
    clinic.rotate(&phi()).await;
    let view = clinic.reaches(&phi(), RotationState::Failed).await;
    engine.stop().await;
    let failure = view.failure.unwrap();
    assert!(failure.contains("has no wrapped material"), "{failure}");
    assert_eq!(
        quarantine_views(&clinic.services, &operator())
            .await
            .unwrap()
            .len(),
        0
    );
}

/// A writer that was there when the last lease ended and never commits is a person's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_stays_open_for_an_hour_needs_a_person() {
    let clinic = Deployment::of(10).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    engine.stop().await;
    let stuck = "UPDATE rotation SET state = 'VERIFYING', waiting_because = 'process 7 is open', \
                 waiting_since = CAST(unixepoch('subsec') * 1000 AS INTEGER) - 3600000 * ";
    for (hours, told) in [("0", false), ("1.1", true)] {
        let stuck = sqlx::AssertSqlSafe(format!("{stuck}{hours}"));
        sqlx::query(stuck).execute(&clinic.store).await.unwrap();
        let needs = status(&clinic.services, &operator())
            .await
            .unwrap()
            .needs_a_person;
        let said = needs.iter().any(|need| need.contains("process 7 is open"));
        assert_eq!(said, told, "{needs:?}");
    }
}
