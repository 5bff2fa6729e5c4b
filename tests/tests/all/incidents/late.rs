//! What is found under a compromised key after its rows were moved: left and told, until a person names it.

use rekey_domain::{AlertKind, ColumnName, Found, QuarantineReason, RotationKind, RotationState};
use rekey_operations::{
    AlertView, QuarantineView, Retry, RotationView, alert_views, cancel_rotation, incident_view,
    quarantine_views, resolve_quarantined, retry_quarantined, sweep_keyring,
};
use rekey_tests::support::{Deployment, Engine, operator, phi, until};
use serde_json::json;
use uuid::Uuid;

use super::{
    report::plan,
    states::{completes, ends_well, report, standing_in},
};

/// As after a source was restored, or as somebody forges it: nobody can tell which, so a person does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_left_and_told_until_a_person_names_it() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    let reported = report(&clinic, "phi/1").await;
    ends_well(&clinic, &reported).await;
    assert_eq!(empty_keys(&clinic).await, 1);
    put_back(&clinic, 1, &backup).await;
    // Of one column, so that nobody has counted the others.
    sweep(&clinic, &["clinic.patients.ssn".parse().unwrap()]).await;
    let engine = Engine::start(&clinic.services);
    let swept = sweep_after(&clinic, reported.rotation.unwrap()).await;
    assert_eq!((swept.moved, swept.quarantined), (0, 1));
    // It is handed out again, and nobody is told that it may be destroyed.
    assert_eq!(empty_keys(&clinic).await, 0);
    assert!(!is_told_to_be_empty(&clinic).await);
    let late = quarantined(&clinic).await;
    assert_eq!(late.reason, QuarantineReason::WrittenAfterCompromise);
    assert_eq!(told_late(&clinic).await.as_deref(), Some("1 value(s)"));
    // By a sweep that nobody reported anything for.
    let of = "SELECT count(*) FROM alert JOIN incident ON incident.id = alert.incident_id \
        WHERE alert.kind = 'WRITTEN_AFTER_COMPROMISE'";
    assert_eq!(clinic.count(of).await, 1);

    // Nobody looked at it.
    retry(&clinic, Retry::All).await;
    let again = sweep_after(&clinic, swept.id).await;
    assert_eq!((again.moved, again.quarantined), (0, 1));
    retry(&clinic, Retry::Values(vec![late.id])).await;
    let last = sweep_after(&clinic, again.id).await;
    engine.stop().await;
    assert_eq!((last.moved, last.quarantined), (1, 0));
    assert_eq!(told_late(&clinic).await, None);
    let old = clinic.key_id(&phi(), 1).await;
    assert_eq!(clinic.under(Found::Key(old)).await, 0);
    clinic.assert_reads_back().await;
}

/// What a person looked at is one ciphertext, and it is moved once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_what_is_put_there_instead_nor_what_is_put_back_is_released_with_it() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    let reported = report(&clinic, "phi/1").await;
    ends_well(&clinic, &reported).await;
    let engine = Engine::start(&clinic.services);
    put_back(&clinic, 1, &backup).await;
    sweep(&clinic, &[]).await;
    let first = sweep_after(&clinic, reported.rotation.unwrap()).await;
    assert_eq!((first.moved, first.quarantined), (0, 1));

    // It begins as the one does that the person looked at.
    let looked_at = quarantined(&clinic).await.id;
    let mut forged = backup.clone();
    *forged.last_mut().unwrap() ^= 1;
    put_back(&clinic, 1, &forged).await;
    retry(&clinic, Retry::Values(vec![looked_at])).await;
    let other = sweep_after(&clinic, first.id).await;
    assert_eq!((other.moved, other.quarantined), (0, 1));
    let reason = quarantined(&clinic).await.reason;
    assert_eq!(reason, QuarantineReason::WrittenAfterCompromise);

    put_back(&clinic, 1, &backup).await;
    sweep(&clinic, &[]).await;
    let held = sweep_after(&clinic, other.id).await;
    retry(&clinic, Retry::Values(vec![quarantined(&clinic).await.id])).await;
    let released = sweep_after(&clinic, held.id).await;
    assert_eq!((released.moved, released.quarantined), (1, 0));
    put_back(&clinic, 1, &backup).await;
    sweep(&clinic, &[]).await;
    let replayed = sweep_after(&clinic, released.id).await;
    engine.stop().await;
    assert_eq!((replayed.moved, replayed.quarantined), (0, 1));
}

/// The late pass moves what was encrypted in time and stored late; of what comes after it nobody knows who wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_late_is_moved_and_what_comes_after_the_late_pass_is_left() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let (in_time, too_late) = (sealed(&clinic, 1).await, sealed(&clinic, 2).await);
    // The pass after the late one waits for the test.
    let hold = "CREATE TRIGGER hold AFTER UPDATE OF closed_at ON key BEGIN UPDATE rotation SET paused = 1; END";
    clinic.in_store(hold).await;
    let reported = report(&clinic, "phi/1").await;
    let engine = Engine::start(&clinic.services);
    clinic.reaches(&phi(), RotationState::Grace).await;
    put_back(&clinic, 1, &in_time).await;
    until("the end of the late pass", async || {
        let closed = "SELECT count(*) FROM key WHERE closed_at IS NOT NULL";
        (clinic.count(closed).await > 0).then_some(())
    })
    .await;
    engine.stop().await;
    put_back(&clinic, 2, &too_late).await;
    clinic.in_store("DROP TRIGGER hold").await;
    clinic
        .in_store("UPDATE rotation SET paused = 0, resend_at = 0")
        .await;
    let view = completes(&clinic, reported.rotation.unwrap()).await;
    assert_eq!(view.quarantined, 1, "{view:#?}");
    let reason = quarantined(&clinic).await.reason;
    assert_eq!(reason, QuarantineReason::WrittenAfterCompromise);
    assert_eq!(told_late(&clinic).await.as_deref(), Some("1 value(s)"));
    clinic.assert_reads_back().await;
    // Who is done with the last of them is told of none.
    let ids = [quarantined(&clinic).await.id];
    resolve_quarantined(
        &clinic.services,
        &ids,
        "stored late by the portal",
        &operator(),
    )
    .await
    .unwrap();
    assert_eq!(told_late(&clinic).await, None);
}

/// What nobody can attribute may stand under any key: no word of nothing left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_value_cannot_be_told_no_key_is_said_to_be_empty() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    clinic
        .in_source("UPDATE patients SET notes = notes || char(10) WHERE id = 3")
        .await;
    let reported = report(&clinic, "phi/1").await;
    completes(&clinic, reported.rotation.unwrap()).await;
    assert_eq!(empty_keys(&clinic).await, 0);
    assert!(!is_told_to_be_empty(&clinic).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_whose_rotation_was_cancelled_is_answered_when_it_is_made_again() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    let first = report(&clinic, "phi/1").await;
    cancel(&clinic, first.rotation.unwrap()).await;
    let again = report(&clinic, "phi/1").await;
    assert!(again.again && again.rotation.is_some());
    assert_ne!(again.rotation, first.rotation);
    let shown = incident_view(&clinic.services, again.incident, &operator()).await;
    let shown = shown.unwrap();
    assert_eq!(shown.rotation, again.rotation);
    assert_eq!(shown.earlier_rotations, [first.rotation.unwrap()]);
    completes(&clinic, again.rotation.unwrap()).await;
    let old = clinic.key_id(&phi(), 1).await;
    assert_eq!(clinic.under(Found::Key(old)).await, 0);
    let last = report(&clinic, "phi/1").await;
    assert_eq!((last.again, last.rotation), (true, None));
    assert_is_closed(&clinic, again.rotation.unwrap(), &backup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_rotation_that_leaves_nothing_under_the_key_closes_it_too() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    let reported = report(&clinic, "phi/1").await;
    cancel(&clinic, reported.rotation.unwrap()).await;
    let engine = Engine::start(&clinic.services);
    clinic.has_a_new_standby().await;
    clinic.rotate(&phi()).await;
    let ordinary = until("an ordinary rotation", async || {
        clinic
            .in_store("UPDATE rotation SET due_at = NULL, resend_at = 0")
            .await;
        let view = clinic.rotation(&phi()).await?;
        let is_over = view.state == RotationState::Completed;
        (Some(view.id) != reported.rotation && is_over).then_some(view)
    })
    .await;
    engine.stop().await;
    assert_is_closed(&clinic, ordinary.id, &backup).await;
}

/// What is put back under the key after this rotation is left.
async fn assert_is_closed(clinic: &Deployment, rotation: Uuid, backup: &[u8]) {
    put_back(clinic, 1, backup).await;
    sweep(clinic, &[]).await;
    let engine = Engine::start(&clinic.services);
    let swept = sweep_after(clinic, rotation).await;
    engine.stop().await;
    assert_eq!((swept.moved, swept.quarantined), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_key_that_was_stopped_before_no_plan_stops_it_and_what_came_back_is_said_to_be_left() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    let first = report(&clinic, "phi/1").await;
    cancel(&clinic, first.rotation.unwrap()).await;
    let would = plan(&clinic, "phi/1").await.would;
    assert!(would.starts_with("move what is left under it"), "{would}");
    let again = report(&clinic, "phi/1").await;
    completes(&clinic, again.rotation.unwrap()).await;
    put_back(&clinic, 1, &backup).await;
    sweep(&clinic, &[]).await;
    let engine = Engine::start(&clinic.services);
    sweep_after(&clinic, again.rotation.unwrap()).await;
    engine.stop().await;
    let would = plan(&clinic, "phi/1").await.would;
    assert!(
        would.contains("written-after-compromise") && !would.contains("stop the key"),
        "{would}"
    );
    let last = report(&clinic, "phi/1").await;
    assert!(
        last.rotation.is_some() && last.notes[0].contains("written-after-compromise"),
        "{last:?}"
    );
}

/// Whoever has to tell people how many values were exposed reads it off the last certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_exposed_is_told_over_all_rotations_of_the_incident_and_what_is_left_of_its_key() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let backup = sealed(&clinic, 1).await;
    clinic
        .in_source("UPDATE patients SET ssn = x'00' WHERE id = 3")
        .await;
    let values = clinic.values() - 1;
    clinic
        .apply(|policy, _| {
            policy.batch_rows = 10;
            policy.emergency_concurrency = 1;
        })
        .await;
    let hold = "CREATE TRIGGER hold AFTER UPDATE OF moved ON batch WHEN NEW.moved > 0 \
        BEGIN UPDATE rotation SET paused = 1; END";
    clinic.in_store(hold).await;
    let first = report(&clinic, "phi/1").await;
    let engine = Engine::start(&clinic.services);
    let moved = "SELECT coalesce(sum(moved), 0) FROM batch";
    until("some values to be moved", async || {
        (clinic.count(moved).await > 0).then_some(())
    })
    .await;
    engine.stop().await;
    clinic.in_store("DROP TRIGGER hold").await;
    let before = clinic.count(moved).await.unsigned_abs();
    assert!(before < values, "{before}");
    cancel(&clinic, first.rotation.unwrap()).await;
    let again = report(&clinic, "phi/1").await;
    let view = completes(&clinic, again.rotation.unwrap()).await;
    let told =
        json!({ "moved": values - before, "moved_before": before, "left": 1, "left_under": 0 });
    assert_eq!(view.certificate.unwrap()["exposure"], told);

    put_back(&clinic, 1, &backup).await;
    let last = report(&clinic, "phi/1").await;
    assert_eq!(last.incident, first.incident);
    let view = completes(&clinic, last.rotation.unwrap()).await;
    let told = json!({ "moved": 0, "moved_before": values, "left": 2, "left_under": 1 });
    assert_eq!(view.certificate.unwrap()["exposure"], told);
}

/// A patient's number as it stands in the source.
async fn sealed(clinic: &Deployment, id: i64) -> Vec<u8> {
    let stands = sqlx::query_scalar("SELECT ssn FROM patients WHERE id = ?").bind(id);
    stands.fetch_one(&clinic.source).await.unwrap()
}

async fn put_back(clinic: &Deployment, id: i64, value: &[u8]) {
    let restore = sqlx::query("UPDATE patients SET ssn = ? WHERE id = ?");
    let restore = restore.bind(value).bind(id);
    restore.execute(&clinic.source).await.unwrap();
}

async fn sweep(clinic: &Deployment, columns: &[ColumnName]) {
    sweep_keyring(&clinic.services, &phi(), columns, &operator())
        .await
        .unwrap();
}

/// The completed sweep that follows a rotation.
async fn sweep_after(clinic: &Deployment, rotation: Uuid) -> RotationView {
    until("a sweep", async || {
        let swept = clinic.rotation(&phi()).await?;
        let is_over = swept.id != rotation && swept.state == RotationState::Completed;
        (swept.kind == RotationKind::Sweep && is_over).then_some(swept)
    })
    .await
}

async fn cancel(clinic: &Deployment, rotation: Uuid) {
    cancel_rotation(&clinic.services, rotation, "by mistake", &operator())
        .await
        .unwrap();
}

async fn retry(clinic: &Deployment, which: Retry) {
    retry_quarantined(&clinic.services, &which, &operator())
        .await
        .unwrap();
}

/// The one value in quarantine.
async fn quarantined(clinic: &Deployment) -> QuarantineView {
    let mut values = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    assert_eq!(values.len(), 1, "{values:#?}");
    values.remove(0)
}

async fn empty_keys(clinic: &Deployment) -> i64 {
    let empty = "SELECT count(*) FROM key WHERE emptied_at IS NOT NULL";
    clinic.count(empty).await
}

async fn is_told_to_be_empty(clinic: &Deployment) -> bool {
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let may_be_destroyed = |alert: &AlertView| alert.kind == AlertKind::KeyMayBeDestroyed;
    alerts.iter().any(may_be_destroyed)
}

/// How many late values the alert speaks of, if there is one.
async fn told_late(clinic: &Deployment) -> Option<String> {
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let late = |alert: &&AlertView| alert.kind == AlertKind::WrittenAfterCompromise;
    let says = &alerts.iter().find(late)?.says;
    says.split_once(" were")
        .map(|(figure, _)| figure.to_owned())
}
