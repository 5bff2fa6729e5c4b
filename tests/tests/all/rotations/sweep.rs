//! Sweeps: values in quarantine tried again, by a rotation without a switch or by the one under way.

use std::{sync::Arc, time::Duration};

use rekey_broker::LocalTransport;
use rekey_domain::{
    ColumnName, Found, KeyState, KeyringPolicy, PLAN_LIMIT, QuarantineReason, RotationKind,
    RotationState, Timing,
};
use rekey_operations::{
    OperationError, QuarantineRetry, QuarantineView, Retry, RotationView, SweepOutcome,
    cancel_rotation, pause_rotation, quarantine_views, resume_rotation, retry_quarantined,
    retry_rotation, verify_audit,
};
use uuid::Uuid;

use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};

const CORRUPT: i64 = 3;
const KEYLESS: i64 = 9;

async fn ssn(clinic: &Deployment, id: i64) -> Vec<u8> {
    let ssn = sqlx::query_scalar("SELECT ssn FROM patients WHERE id = ?").bind(id);
    ssn.fetch_one(&clinic.source).await.unwrap()
}

async fn set_ssn(clinic: &Deployment, id: i64, ssn: &[u8]) {
    let set = sqlx::query("UPDATE patients SET ssn = ? WHERE id = ?");
    let set = set.bind(ssn).bind(id).execute(&clinic.source).await;
    assert_eq!(set.unwrap().rows_affected(), 1);
}

/// Spoils a value; gives the right bytes.
async fn spoil(clinic: &Deployment, id: i64, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let right = ssn(clinic, id).await;
    let mut spoilt = right.clone();
    change(&mut spoilt);
    set_ssn(clinic, id, &spoilt).await;
    right
}

async fn corrupt(clinic: &Deployment) -> Vec<u8> {
    spoil(clinic, CORRUPT, |bytes| *bytes.last_mut().unwrap() ^= 1).await
}

async fn retry(clinic: &Deployment) -> Vec<QuarantineRetry> {
    let asked = retry_quarantined(&clinic.services, &Retry::All, &operator()).await;
    asked.unwrap()
}

async fn refused(clinic: &Deployment, which: &Retry) -> OperationError {
    let asked = retry_quarantined(&clinic.services, which, &operator()).await;
    asked.unwrap_err()
}

async fn open(clinic: &Deployment) -> Vec<QuarantineView> {
    quarantine_views(&clinic.services, &operator())
        .await
        .unwrap()
}

/// Waits for the end of this rotation, which must be the latest.
async fn completes(clinic: &Deployment, id: Uuid) -> RotationView {
    let view = clinic.completes().await;
    assert_eq!(view.id, id);
    view
}

/// Everything but who moves rows.
fn without_re_encryptor(clinic: &Deployment) -> Engine {
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut engine = Engine::default();
    engine.scheduler(&clinic.services);
    engine.rotator(&clinic.services, transport);
    engine
}

fn re_encryptor(engine: &mut Engine, clinic: &Deployment) {
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    engine.re_encryptor(&clinic.services, transport);
}

/// A clinic after a rotation that left one corrupt value in quarantine; gives the right bytes.
async fn with_one_in_quarantine(patients: i64) -> (Deployment, Vec<u8>) {
    let clinic = Deployment::of(patients).await;
    let right = corrupt(&clinic).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    engine.stop().await;
    assert_eq!(open(&clinic).await.len(), 1);
    (clinic, right)
}

async fn dispatched(clinic: &Deployment) {
    const DISPATCHED: &str = "SELECT count(*) FROM batch WHERE state = 'DISPATCHED'";
    until("batches in flight", async || {
        (clinic.count(DISPATCHED).await > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_quarantine_is_moved_after_its_cause_is_mended_and_no_other_row_is_written() {
    let clinic = Deployment::of(200).await;
    let right = corrupt(&clinic).await;
    spoil(&clinic, KEYLESS, |bytes| {
        bytes[1..5].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef])
    })
    .await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let rotation = clinic.completes().await;
    assert_eq!(rotation.kind, RotationKind::Switch);
    clinic.has_a_new_standby().await;
    let met = open(&clinic).await;
    assert_eq!(met.len(), 2);

    set_ssn(&clinic, CORRUPT, &right).await;
    let before = clinic.patients().await;
    let [first] = &retry(&clinic).await[..] else {
        panic!("one keyring, one sweep");
    };
    let column: ColumnName = "clinic.patients.ssn".parse().unwrap();
    assert_eq!(
        (first.sweep.outcome, first.values),
        (SweepOutcome::Started, 2)
    );
    assert_eq!(first.sweep.columns, std::slice::from_ref(&column));
    assert_ne!(first.sweep.rotation, rotation.id);
    let sweep = completes(&clinic, first.sweep.rotation).await;
    assert_eq!(
        (sweep.kind, sweep.columns),
        (RotationKind::Sweep, vec![column])
    );
    assert_eq!((sweep.rows, sweep.moved, sweep.quarantined), (1, 1, 1));
    assert_eq!(sweep.target.unwrap().to_string(), "phi/2");
    assert_eq!(sweep.principal, operator().to_string());

    // The mended one is moved and resolved; the other stays, met again for the same reason.
    let left = open(&clinic).await;
    assert_eq!(left.len(), 1);
    assert!(
        left[0].row.contains(&format!(" rowid {KEYLESS} ")),
        "{}",
        left[0].row
    );
    assert_eq!(left[0].reason, QuarantineReason::MissingKey);
    assert_eq!(left[0].rotation, sweep.id);
    let new = clinic.key_id(&phi(), 2).await;
    assert_eq!(clinic.under(Found::Key(new)).await, clinic.values() - 1);
    let after = clinic.patients().await;
    let written = |one: &[(i64, String)], other: &[(i64, String)]| -> Vec<i64> {
        let pairs = one.iter().zip(other);
        pairs
            .filter(|(one, other)| one != other)
            .map(|(one, _)| one.0)
            .collect()
    };
    assert_eq!(written(&before, &after), [CORRUPT]);
    // No switch, and nothing but the table of the column was gone over.
    let states: Vec<_> = clinic
        .keys(&phi())
        .await
        .iter()
        .map(|key| key.state)
        .collect();
    assert_eq!(
        states,
        [KeyState::Inactive, KeyState::Active, KeyState::Pending]
    );
    let tables = "SELECT count(DISTINCT table_id) FROM batch WHERE rotation_id IN
                  (SELECT id FROM rotation WHERE kind = 'sweep')";
    assert_eq!(clinic.count(tables).await, 1);

    let [second] = &retry(&clinic).await[..] else {
        panic!("one keyring, one sweep");
    };
    let again = completes(&clinic, second.sweep.rotation).await;
    engine.stop().await;
    assert_eq!((again.rows, again.moved, again.quarantined), (0, 0, 1));
    assert_eq!(clinic.patients().await, after);
    let left = open(&clinic).await;
    assert_eq!(
        (left.len(), left[0].reason),
        (1, QuarantineReason::MissingKey)
    );
    for action in ["sweep.started", "sweep.completed"] {
        assert_eq!(clinic.audited(action, "phi").await, 2, "{action}");
    }
    assert_eq!(clinic.audited("rotation.completed", "phi").await, 1);
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_a_sweep_says_that_no_key_was_replaced_and_which_columns_it_is_about() {
    let (clinic, right) = with_one_in_quarantine(60).await;
    let of_rotation = clinic.completes().await.certificate.unwrap();
    assert_eq!(of_rotation.get("kind"), None, "a switch reads as ever");
    set_ssn(&clinic, CORRUPT, &right).await;
    let engine = Engine::start(&clinic.services);
    let id = retry(&clinic).await[0].sweep.rotation;
    let certificate = completes(&clinic, id).await.certificate.unwrap();
    engine.stop().await;
    assert_eq!(certificate["schema"], "rekey.certificate/v1");
    assert_eq!(certificate["kind"], "sweep");
    assert_eq!(certificate["columns"][0], "clinic.patients.ssn");
    assert!(certificate["from"].is_null() && certificate["switched_at"].is_null());
    assert_eq!(certificate["to"], "phi/2");
    assert_eq!(
        (&certificate["moved"], &certificate["quarantined"]),
        (&1.into(), &0.into())
    );
    let columns = |census: &str| -> Vec<String> {
        let lines = certificate[census].as_array().unwrap().iter();
        lines
            .map(|line| format!("{} {}", line["column"], line["under"]))
            .collect()
    };
    let after = columns("census_after").join(" ");
    assert!(
        !after.contains("visits") && !after.contains("phi/1"),
        "{after}"
    );
    assert!(columns("census_before").concat().contains("phi/1"));
    let supports = certificate["supports"].to_string();
    assert!(
        supports.contains("HIPAA") && !supports.contains("3.7.4"),
        "{supports}"
    );
}

#[tokio::test]
async fn where_nothing_is_in_quarantine_nothing_is_asked_for() {
    let clinic = Deployment::of(0).await;
    let before = clinic.count("SELECT count(*) FROM audit_entry").await;
    assert!(retry(&clinic).await.is_empty());
    let of_keyring = Retry::OfKeyring(phi());
    let none = retry_quarantined(&clinic.services, &of_keyring, &operator()).await;
    assert!(none.unwrap().is_empty());
    assert_eq!(clinic.count("SELECT count(*) FROM rotation").await, 0);
    assert_eq!(clinic.count("SELECT count(*) FROM outbox").await, 0);
    assert_eq!(
        clinic.count("SELECT count(*) FROM audit_entry").await,
        before
    );
    for (which, expected) in [
        (
            Retry::OfKeyring("phy".parse().unwrap()),
            "audit, other, phi",
        ),
        (
            Retry::OfColumn("clinic.patients.sssn".parse().unwrap()),
            "clinic.patients.ssn",
        ),
        (Retry::Values(vec![Uuid::nil()]), "in quarantine"),
    ] {
        let error = refused(&clinic, &which).await.to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_named_is_tried_again_and_one_that_is_resolved_is_not() {
    let (clinic, right) = with_one_in_quarantine(30).await;
    let id = open(&clinic).await[0].id;
    set_ssn(&clinic, CORRUPT, &right).await;
    let engine = Engine::start(&clinic.services);
    let named = Retry::Values(vec![id]);
    let asked = retry_quarantined(&clinic.services, &named, &operator()).await;
    completes(&clinic, asked.unwrap()[0].sweep.rotation).await;
    engine.stop().await;
    let again = retry_quarantined(&clinic.services, &named, &operator()).await;
    assert!(again.unwrap().is_empty());
}

/// A clinic whose rotation waits out an hour of grace, one value in quarantine.
async fn in_grace() -> (Deployment, Vec<u8>, RotationView) {
    let policy = KeyringPolicy {
        timing: Timing {
            grace_period: Duration::from_secs(3_600),
            ..short().timing
        },
        ..short()
    };
    let clinic = Deployment::with(60, policy).await;
    let right = corrupt(&clinic).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let rotation = clinic.reaches(&phi(), RotationState::Grace).await;
    engine.stop().await;
    (clinic, right, rotation)
}

async fn end_grace(clinic: &Deployment) {
    let over = |policy: &mut KeyringPolicy| policy.timing.grace_period = Duration::ZERO;
    clinic.apply(|policy, _| over(policy)).await;
    clinic.in_store("UPDATE rotation SET resend_at = 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_in_its_grace_period_tries_them_again_itself() {
    let (clinic, right, rotation) = in_grace().await;
    set_ssn(&clinic, CORRUPT, &right).await;
    let joined = &retry(&clinic).await[0];
    assert_eq!(
        (joined.sweep.rotation, joined.sweep.outcome),
        (rotation.id, SweepOutcome::Joined)
    );
    assert_eq!(joined.sweep.not_before, rotation.due_at);
    assert_eq!(
        clinic
            .audited("sweep.joined", &rotation.id.to_string())
            .await,
        1
    );
    let paused = pause_rotation(&clinic.services, rotation.id, &operator()).await;
    paused.unwrap();
    let why = retry(&clinic).await[0]
        .sweep
        .paused_because
        .clone()
        .unwrap();
    assert!(why.contains("os:ana"), "{why}");
    let resumed = resume_rotation(&clinic.services, rotation.id, &operator()).await;
    resumed.unwrap();

    end_grace(&clinic).await;
    let engine = Engine::start(&clinic.services);
    completes(&clinic, rotation.id).await;
    engine.stop().await;
    assert!(open(&clinic).await.is_empty());
    clinic.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_verifies_begins_another_pass_as_it_may_have_read_them_already() {
    let (clinic, right, rotation) = in_grace().await;
    end_grace(&clinic).await;
    let mut engine = without_re_encryptor(&clinic);
    clinic.reaches(&phi(), RotationState::Verifying).await;
    dispatched(&clinic).await;
    set_ssn(&clinic, CORRUPT, &right).await;
    let asked = &retry(&clinic).await[0];
    assert_eq!(
        (asked.sweep.rotation, asked.sweep.outcome),
        (rotation.id, SweepOutcome::AnotherPass)
    );
    re_encryptor(&mut engine, &clinic);
    let completed = completes(&clinic, rotation.id).await;
    engine.stop().await;
    // What a pass moved is opened by the next.
    assert_eq!(completed.passes, 4);
    assert!(open(&clinic).await.is_empty());
    let new = clinic.key_id(&phi(), 2).await;
    assert_eq!(clinic.under(Found::Key(new)).await, clinic.values());
    clinic.assert_reads_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_failed_after_its_switch_is_retried_first() {
    let (clinic, _, rotation) = in_grace().await;
    let failed = "UPDATE rotation SET state = 'FAILED', failure = 'a disk'";
    assert_eq!(clinic.in_store(failed).await, 1);
    let error = refused(&clinic, &Retry::All).await;
    let advice = format!("rekey rotations retry {}", rotation.id);
    assert!(matches!(error, OperationError::Refused(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.contains(&advice) && error.contains("a disk"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_primary_key_a_sweep_is_refused_with_what_to_do() {
    let (clinic, _) = with_one_in_quarantine(30).await;
    let without = "UPDATE keyring SET primary_key_id = NULL WHERE name = 'phi'";
    assert_eq!(clinic.in_store(without).await, 1);
    let error = refused(&clinic, &Retry::All).await.to_string();
    for part in ["keyring phi has no primary key", "rekey init"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(clinic.count("SELECT count(*) FROM rotation").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_rotation_supersedes_a_sweep_and_takes_its_rows_along() {
    let (clinic, right) = with_one_in_quarantine(60).await;
    set_ssn(&clinic, CORRUPT, &right).await;
    let mut engine = without_re_encryptor(&clinic);
    let sweep = retry(&clinic).await[0].sweep.rotation;
    dispatched(&clinic).await;
    clinic.rotate(&phi()).await;
    let rotation = until("a rotation after the sweep", async || {
        let view = clinic.rotation(&phi()).await?;
        (view.kind == RotationKind::Switch).then_some(view)
    })
    .await;
    assert_ne!(rotation.id, sweep);
    re_encryptor(&mut engine, &clinic);
    completes(&clinic, rotation.id).await;
    engine.stop().await;
    let superseded = "SELECT count(*) FROM rotation WHERE kind = 'sweep' AND state = 'SUPERSEDED'";
    assert_eq!(clinic.count(superseded).await, 1);
    assert!(open(&clinic).await.is_empty());
    let newest = clinic.key_id(&phi(), 3).await;
    assert_eq!(clinic.under(Found::Key(newest)).await, clinic.values());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_does_not_hold_back_a_rotation_that_a_used_up_key_asks_for() {
    let (clinic, _) = with_one_in_quarantine(30).await;
    let id = retry(&clinic).await[0].sweep.rotation;
    let paused = pause_rotation(&clinic.services, id, &operator()).await;
    paused.unwrap();
    let most = i64::try_from(short().max_encryptions).unwrap();
    let spend = sqlx::query("UPDATE key SET used_by_applications = ? WHERE state = 'ACTIVE'");
    let spent = spend.bind(most).execute(&clinic.store).await;
    assert!(spent.unwrap().rows_affected() > 0);
    let engine = without_re_encryptor(&clinic);
    let rotation = until("a rotation for usage", async || {
        let view = clinic.rotation(&phi()).await?;
        (view.id != id).then_some(view)
    })
    .await;
    engine.stop().await;
    assert_eq!(
        (rotation.kind, &*rotation.reason),
        (RotationKind::Switch, "usage")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_is_paused_resumed_and_cancelled_as_any_rotation() {
    let (clinic, right) = with_one_in_quarantine(60).await;
    set_ssn(&clinic, CORRUPT, &right).await;
    let mut engine = without_re_encryptor(&clinic);
    let id = retry(&clinic).await[0].sweep.rotation;
    dispatched(&clinic).await;
    let (services, ana) = (&clinic.services, operator());
    pause_rotation(services, id, &ana).await.unwrap();
    re_encryptor(&mut engine, &clinic);
    until("messages that find nothing to do", async || {
        clinic.no_message_waits().await.then_some(())
    })
    .await;
    assert_eq!(clinic.under_old().await, 1);
    resume_rotation(services, id, &ana).await.unwrap();
    completes(&clinic, id).await;
    engine.stop().await;
    assert_eq!(clinic.under_old().await, 0);

    corrupt(&clinic).await;
    let engine = Engine::start(services);
    clinic.rotate(&phi()).await;
    until("a rotation with something left", async || {
        let view = clinic.rotation(&phi()).await?;
        (view.id != id && view.ended_at.is_some()).then_some(())
    })
    .await;
    engine.stop().await;
    let engine = without_re_encryptor(&clinic);
    let id = retry(&clinic).await[0].sweep.rotation;
    cancel_rotation(services, id, "not today", &ana)
        .await
        .unwrap();
    engine.stop().await;
    let cancelled = clinic.rotation(&phi()).await.unwrap();
    assert_eq!(
        (cancelled.id, cancelled.state),
        (id, RotationState::Cancelled)
    );
    assert_eq!(open(&clinic).await.len(), 1, "it stays in quarantine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_does_not_fit_under_the_primary_key_fails_and_retried_goes_on() {
    let (clinic, right) = with_one_in_quarantine(60).await;
    set_ssn(&clinic, CORRUPT, &right).await;
    let used = i64::try_from(PLAN_LIMIT).unwrap();
    let spend = sqlx::query("UPDATE key SET used = ? WHERE state = 'ACTIVE'").bind(used);
    spend.execute(&clinic.store).await.unwrap();
    let engine = Engine::start(&clinic.services);
    let id = retry(&clinic).await[0].sweep.rotation;
    let failed = clinic.reaches(&phi(), RotationState::Failed).await;
    let why = failed.failure.unwrap();
    assert!(why.contains("rekey rotate phi"), "{why}");
    assert_eq!(clinic.audited("sweep.failed", "phi").await, 1);
    assert_eq!(clinic.under_old().await, 1);

    clinic
        .in_store("UPDATE key SET used = 0 WHERE state = 'ACTIVE'")
        .await;
    retry_rotation(&clinic.services, id, &operator())
        .await
        .unwrap();
    let completed = completes(&clinic, id).await;
    engine.stop().await;
    // What a pass moved is opened by the next.
    assert_eq!((completed.passes, completed.moved), (2, 1));
    assert!(open(&clinic).await.is_empty());
}
