//! Steering a rotation: cancel, canaries, concurrency, and the limits of a source.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use rekey_broker::LocalTransport;
use rekey_domain::{
    Canary, Found, KeyState, KeyringPolicy, RotationReason, RotationState, Timing, Triggers, Urgent,
};
use rekey_messages::RotationRequested;
use rekey_operations::{
    RotationView, apply, cancel_rotation, request_rotation, requested_rotation, resume_rotation,
    verify_audit,
};

use rekey_tests::support::{Deployment, Engine, desired_of, operator, phi, short, until};

fn request(canary: &Canary) -> RotationRequested {
    RotationRequested {
        canary: canary.clone(),
        ..RotationRequested::of_all(phi(), RotationReason::Request)
    }
}

fn after(rows: u64) -> Canary {
    Canary {
        pause_after: NonZeroU64::new(rows),
        only: None,
    }
}

fn only(column: &str) -> Canary {
    Canary {
        pause_after: None,
        only: Some(column.parse().unwrap()),
    }
}

async fn ask(clinic: &Deployment, canary: &Canary) {
    let asked = request_rotation(&clinic.services, &request(canary), &operator()).await;
    asked.unwrap();
}

/// Waits until the rotation has put itself on hold and nothing is in flight.
async fn pauses(clinic: &Deployment) -> RotationView {
    until("a pause", async || {
        let view = clinic.rotation(&phi()).await?;
        let settled = clinic.no_message_waits().await;
        (settled && view.paused_because.is_some()).then_some(view)
    })
    .await
}

async fn resumed_it_moves_the_rest(clinic: &Deployment, paused: &RotationView) {
    resume(clinic, paused).await;
    let completed = clinic.completes().await;
    assert_eq!(completed.moved, clinic.values());
    clinic.assert_rotated_once().await;
}

async fn resume(clinic: &Deployment, view: &RotationView) {
    let resumed = resume_rotation(&clinic.services, view.id, &operator()).await;
    resumed.unwrap();
}

async fn cancel(clinic: &Deployment, view: &RotationView, because: &str) {
    let cancelled = cancel_rotation(&clinic.services, view.id, because, &operator()).await;
    cancelled.unwrap();
}

/// Everything but who moves rows.
fn without_re_encryptor(clinic: &Deployment) -> Engine {
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut engine = Engine::default();
    engine.scheduler(&clinic.services);
    engine.rotator(&clinic.services, transport);
    engine
}

async fn dispatched(clinic: &Deployment, batches: i64) {
    const DISPATCHED: &str = "SELECT count(*) FROM batch WHERE state = 'DISPATCHED'";
    until("batches in flight", async || {
        (clinic.count(DISPATCHED).await == batches).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_rotation_stops_where_it_is_and_the_next_takes_the_rest_along() {
    let clinic = Deployment::of(600).await;
    let engine = Engine::start(&clinic.services);
    ask(&clinic, &after(150)).await;
    let paused = pauses(&clinic).await;
    let because = "the vendor wants to look";
    for (reason, allowed) in [(" ", false), (because, true), (because, false)] {
        let cancelled = cancel_rotation(&clinic.services, paused.id, reason, &operator()).await;
        assert_eq!(cancelled.is_ok(), allowed, "{cancelled:?}");
    }
    let cancelled = clinic.rotation(&phi()).await.unwrap();
    assert_eq!(cancelled.state, RotationState::Cancelled);
    assert_eq!(cancelled.cancelled_because.as_deref(), Some(because));
    assert!(cancelled.ended_at.is_some() && cancelled.paused_because.is_none());
    let id = cancelled.id.to_string();
    assert_eq!(clinic.audited("rotation.cancelled", &id).await, 1);
    let old = clinic.under_old().await;
    assert!(old > 0 && cancelled.moved > 0 && old + cancelled.moved == clinic.values());
    // The switch is not undone, and every row can be read.
    assert_eq!(clinic.keys(&phi()).await[1].state, KeyState::Active);
    clinic.assert_reads_back().await;

    clinic.has_a_new_standby().await;
    ask(&clinic, &Canary::default()).await;
    let completed = clinic.completes().await;
    assert_ne!(completed.id, cancelled.id);
    let newest = clinic.key_id(&phi(), 3).await;
    assert_eq!(clinic.under(Found::Key(newest)).await, clinic.values());
    clinic.assert_reads_back().await;
    engine.stop().await;
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_were_sent_before_a_cancel_move_nothing_after_it() {
    let clinic = Deployment::of(600).await;
    let mut engine = without_re_encryptor(&clinic);
    clinic.rotate(&phi()).await;
    dispatched(&clinic, 5).await;
    let view = clinic.rotation(&phi()).await.unwrap();
    cancel(&clinic, &view, "wrong keyring").await;
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    engine.re_encryptor(&clinic.services, transport);
    until("messages that find nothing to do", async || {
        clinic.no_message_waits().await.then_some(())
    })
    .await;
    engine.stop().await;
    assert_eq!(clinic.under_old().await, clinic.values());
    let view = clinic.rotation(&phi()).await.unwrap();
    assert_eq!((view.state, view.moved), (RotationState::Cancelled, 0));
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_cancelled_before_the_switch_leaves_the_keys_as_they_were() {
    let policy = KeyringPolicy {
        timing: Timing {
            keyset_max_age: Duration::from_secs(3_600),
            ..short().timing
        },
        ..short()
    };
    let clinic = Deployment::with(60, policy).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let view = clinic.reaches(&phi(), RotationState::Distributing).await;
    cancel(&clinic, &view, "not now").await;
    let states: Vec<_> = clinic
        .keys(&phi())
        .await
        .iter()
        .map(|key| key.state)
        .collect();
    assert_eq!(states, [KeyState::Active, KeyState::Pending]);
    clinic.apply(|policy, _| *policy = short()).await;
    clinic.rotate(&phi()).await;
    let completed = clinic.completes().await;
    engine.stop().await;
    assert_eq!(completed.target.unwrap().to_string(), "phi/2");
    assert_eq!(clinic.under_old().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_pauses_after_the_rows_it_was_told_and_resumed_moves_the_rest() {
    let clinic = Deployment::of(1_000).await;
    let engine = Engine::start(&clinic.services);
    ask(&clinic, &after(250)).await;
    let paused = pauses(&clinic).await;
    assert!((250..350).contains(&paused.rows), "{} rows", paused.rows);
    let why = paused.paused_because.clone().unwrap();
    assert!(why.contains("pause after 250"), "{why}");
    assert_eq!(paused.pause_after, None, "said once");
    let by_whom = "SELECT count(*) FROM audit_entry WHERE action = 'rotation.paused'
        AND principal IN ('worker:re-encryptor', 'worker:rotator')";
    assert_eq!(clinic.count(by_whom).await, 1);
    assert_eq!(
        clinic
            .audited("rotation.paused", &paused.id.to_string())
            .await,
        1
    );
    assert!(clinic.under_old().await > 0);
    resumed_it_moves_the_rest(&clinic, &paused).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_moves_one_columns_rows_and_resumed_all_the_others() {
    let clinic = Deployment::of(400).await;
    let engine = Engine::start(&clinic.services);
    ask(&clinic, &only("clinic.visits.finding")).await;
    let paused = pauses(&clinic).await;
    let why = paused.paused_because.clone().unwrap();
    for part in ["canary", "clinic.visits.finding", "resumed"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(
        (paused.state, paused.rows),
        (RotationState::ReEncrypting, 100)
    );
    assert_eq!(clinic.under_old().await, clinic.values() - 100);
    clinic.assert_reads_back().await;
    resumed_it_moves_the_rest(&clinic, &paused).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_takes_along_what_stands_in_the_same_rows() {
    let clinic = Deployment::of(200).await;
    let engine = Engine::start(&clinic.services);
    ask(&clinic, &only("clinic.patients.ssn")).await;
    let paused = pauses(&clinic).await;
    engine.stop().await;
    assert_eq!(paused.rows, 200);
    assert_eq!(clinic.under_old().await, 50, "the visits alone");
}

#[tokio::test]
async fn a_canary_that_cannot_be_is_refused_before_anything_is_sent() {
    let clinic = Deployment::of(0).await;
    for (column, expected) in [
        (
            "clinic.patients.sssn",
            "is not protected; keyring phi protects clinic.patients.ssn, clinic.patients.notes",
        ),
        ("rekey.audit_detail.details", "is under keyring audit"),
    ] {
        let asked = request_rotation(&clinic.services, &request(&only(column)), &operator()).await;
        let error = asked.unwrap_err().to_string();
        assert!(
            error.contains(column) && error.contains(expected),
            "{error}"
        );
    }
    assert_eq!(clinic.count("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_way_does_not_become_a_canary() {
    let clinic = Deployment::of(100).await;
    let engine = without_re_encryptor(&clinic);
    clinic.rotate(&phi()).await;
    clinic.reaches(&phi(), RotationState::ReEncrypting).await;
    let asked = request_rotation(&clinic.services, &request(&after(5)), &operator()).await;
    engine.stop().await;
    let error = asked.unwrap_err().to_string();
    assert!(error.contains("rekey rotations pause"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_concurrency_counts_at_once_and_a_lower_one_at_the_next_dispatch() {
    let policy = KeyringPolicy {
        concurrency: 2,
        batch_rows: 20,
        ..short()
    };
    let clinic = Deployment::with(400, policy).await;
    let mut engine = without_re_encryptor(&clinic);
    clinic.rotate(&phi()).await;
    dispatched(&clinic, 2).await;
    clinic.apply(|policy, _| policy.concurrency = 6).await;
    dispatched(&clinic, 6).await;
    clinic.apply(|policy, _| policy.concurrency = 1).await;
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    engine.re_encryptor(&clinic.services, transport);
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_its_window_a_source_is_left_alone_and_the_rotation_says_so() {
    let clinic = Deployment::of(100).await;
    let now = clinic.services.store.now().await.unwrap();
    let time = |hours| (now + TimeDelta::hours(hours)).format("%H:%M");
    let window = format!("{}-{} UTC", time(2), time(3));
    let later = window.parse().unwrap();
    clinic.apply(|_, limits| limits.window = Some(later)).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let view = until("a rotation that waits", async || {
        let view = clinic.rotation(&phi()).await?;
        let why = view.waiting.first()?;
        // Workers that have just been started are no reason.
        (!why.starts_with("no ")).then_some(view)
    })
    .await;
    let why = &view.waiting[0];
    assert!(
        why.starts_with(&format!("outside the window {window}")),
        "{why}"
    );
    assert!(why.ends_with("at clinic"), "{why}");
    assert_eq!(clinic.under_old().await, clinic.values());
    assert_eq!(
        (view.state, view.paused_because),
        (RotationState::ReEncrypting, None)
    );

    clinic.apply(|_, limits| limits.window = None).await;
    // A minute has passed.
    clinic.in_store("UPDATE outbox SET available_at = 0").await;
    let completed = clinic.completes().await;
    assert_eq!(completed.waiting, Vec::<String>::new());
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

/// Both were asked for before anybody took them up: the second would move all rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_another_request_overtook_is_refused_and_never_becomes_a_whole_rotation() {
    let clinic = Deployment::of(100).await;
    clinic.rotate(&phi()).await;
    let ana = operator();
    let canary = request(&after(5));
    let asked = request_rotation(&clinic.services, &canary, &ana).await;
    let asked = asked.unwrap();
    let engine = Engine::start(&clinic.services);
    clinic.completes().await;
    let refused = until("an answer", async || {
        requested_rotation(&clinic.services, &asked, &ana)
            .await
            .err()
    })
    .await;
    assert!(
        refused.to_string().contains("would not become a canary"),
        "{refused}"
    );
    engine.stop().await;
}

/// A key that leaked waits for no night.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_rotation_waits_for_no_window_and_no_pace_unless_that_was_said() {
    let clinic = Deployment::of(100).await;
    let now = clinic.services.store.now().await.unwrap();
    let time = |hours| (now + TimeDelta::hours(hours)).format("%H:%M");
    let later = format!("{}-{} UTC", time(2), time(3)).parse().unwrap();
    let limit = async |urgent| {
        clinic
            .apply(|_, limits| {
                limits.window = Some(later);
                limits.rows_per_second = NonZeroU32::new(1);
                limits.urgent = urgent;
            })
            .await;
    };
    limit(Urgent::AsUsual).await;
    let engine = Engine::start(&clinic.services);
    let mut request = RotationRequested::of_all(phi(), RotationReason::Request);
    request.urgent = true;
    let ana = operator();
    let asked = request_rotation(&clinic.services, &request, &ana);
    asked.await.unwrap();
    until("a rotation that waits", async || {
        let view = clinic.rotation(&phi()).await?;
        let why = view
            .waiting
            .iter()
            .find(|why| why.starts_with("outside the window"));
        (view.urgent && why.is_some()).then_some(())
    })
    .await;
    limit(Urgent::Hurry).await;
    // A minute has passed.
    clinic.in_store("UPDATE outbox SET available_at = 0").await;
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_processes_together_keep_the_pace_of_a_source() {
    const A_SECOND: u32 = 200;
    let clinic = Deployment::of(600).await;
    let rate = NonZeroU32::new(A_SECOND);
    clinic
        .apply(|_, limits| limits.rows_per_second = rate)
        .await;
    let engine = Engine::start(&clinic.services);
    let mut elsewhere = Engine::default();
    let process = clinic.process("elsewhere").await;
    let transport = Arc::new(LocalTransport::new(process.store.clone()));
    elsewhere.re_encryptor(&process, transport);
    let started = Instant::now();
    clinic.rotate(&phi()).await;
    let mut waited = false;
    let moved = until("every row moved", async || {
        let view = clinic.rotation(&phi()).await?;
        waited |= view
            .waiting
            .first()
            .is_some_and(|why| why == "200 rows a second at clinic");
        (view.moved == clinic.values()).then_some(view)
    })
    .await;
    let (took, rows) = (started.elapsed(), moved.rows);
    assert_eq!(rows, 750);
    // The first second's rows go at once, and every batch has a hundred rows.
    let least = Duration::from_secs_f64(f64::from(750 - 100) / f64::from(A_SECOND));
    assert!(took >= least, "{rows} rows in {took:?}");
    assert!(waited, "it did not say what it waits for");
    clinic.completes().await;
    elsewhere.stop().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_appears_after_apply_puts_the_rotation_on_hold_until_it_is_spoken_of() {
    let clinic = Deployment::of(200).await;
    let engine = Engine::start(&clinic.services);
    clinic
        .in_source("CREATE TRIGGER late AFTER UPDATE ON patients BEGIN SELECT 1; END")
        .await;
    clinic.rotate(&phi()).await;
    let paused = pauses(&clinic).await;
    let why = paused.paused_because.clone().unwrap();
    for part in ["clinic.patients", "late", "on_update", "rekey apply"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(clinic.count("SELECT count(*) FROM batch").await, 0);
    let mut desired = desired_of(&clinic);
    let source = desired.sources.iter_mut().find(|one| one.name == "clinic");
    for table in &mut source.unwrap().tables {
        table.on_update.triggers = Some(Triggers::Fire);
    }
    let applied = apply(&clinic.services, &desired, &operator()).await;
    applied.unwrap();
    resume(&clinic, &paused).await;
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}
