//! What a rotation waits for is said, costs no attempt, and is gone on with; what no waiting mends puts it on hold.

use std::collections::BTreeSet;

use rekey_operations::{resume_rotation, status};

use crate::{
    postgres_source::{ACCEPTED, Clinic},
    support::{Engine, operator, until},
};

async fn half_rotated(clinic: &Clinic) -> Engine {
    clinic.insert(r#""Visits""#, 1, 300).await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    until("some batches that are done", async || {
        let done = "SELECT count(*) FROM batch WHERE state = 'DONE'";
        (clinic.in_store(done).await > 1).then_some(())
    })
    .await;
    engine
}

/// As VACUUM FULL does. Its keyring allows one attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_is_waited_for_however_long_and_who_holds_it_is_said() {
    let clinic = Clinic::new(ACCEPTED).await;
    let mut application = clinic.application.begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *application)
        .await
        .unwrap();
    let engine = half_rotated(&clinic).await;
    sqlx::query(r#"LOCK TABLE "Visits" IN ACCESS EXCLUSIVE MODE"#)
        .execute(&mut *application)
        .await
        .unwrap();
    let mut tries = BTreeSet::new();
    let view = until("more tries than attempts are allowed", async || {
        let tried = "SELECT max(resend_at) FROM batch WHERE waiting_since IS NOT NULL";
        if clinic.in_store("SELECT count(*) FROM batch WHERE waiting_since IS NOT NULL").await > 0 {
            tries.insert(clinic.in_store(tried).await);
        }
        let view = clinic.rotation().await?;
        assert_eq!(view.failure, None);
        (tries.len() > 4).then_some(view)
    })
    .await;
    let said = view.waiting.join("; ");
    assert!(said.contains(&format!("held by process {pid}")), "{said}");
    assert!(view.waiting_since.is_some());
    application.rollback().await.unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 300);
    assert_eq!((view.quarantined, view.waiting), (0, Vec::new()));
    assert_eq!(status(&clinic.services).await.unwrap().dead_letters, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_there_puts_the_rotation_on_hold_with_the_reason() {
    let clinic = Clinic::new(ACCEPTED).await;
    let engine = half_rotated(&clinic).await;
    clinic.execute(r#"ALTER TABLE "Visits" RENAME TO encounters"#).await;
    let view = until("the rotation on hold", async || {
        let view = clinic.rotation().await?;
        assert_eq!(view.failure, None);
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = view.paused_because.unwrap();
    assert!(why.contains("no table") && why.contains("Visits"), "{why}");
    let needs = status(&clinic.services).await.unwrap().needs_a_person;
    assert!(needs.iter().any(|need| need.contains(&why)), "{needs:?}");
    assert_eq!(status(&clinic.services).await.unwrap().dead_letters, 0);
    clinic.execute(r#"ALTER TABLE encounters RENAME TO "Visits""#).await;
    resume_rotation(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 300);
}
