//! Values below the primary key though no rotation is under way, and values under keys that nobody knows: a source or a store from a backup.

use std::process::Command;

use rekey_domain::{AlertKind, KeyringPolicy, QuarantineReason, RotationKind, RotationState};
use rekey_operations::{
    RotationView, SweepOutcome, alert_views, cancel_rotation, pause_rotation, quarantine_views,
    resume_rotation, status, sweep_keyring,
};
use rekey_testkit::program;

use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};

use crate::incidents::states::half;

/// Ciphertexts by patient, as they are now.
async fn ssns(clinic: &Deployment) -> Vec<(i64, Vec<u8>)> {
    let ssns = sqlx::query_as("SELECT id, ssn FROM patients ORDER BY id");
    ssns.fetch_all(&clinic.source).await.unwrap()
}

async fn put_back(clinic: &Deployment, ssns: &[(i64, Vec<u8>)]) {
    let mut transaction = clinic.source.begin().await.unwrap();
    for (id, ssn) in ssns {
        let update = sqlx::query("UPDATE patients SET ssn = ? WHERE id = ?");
        let update = update.bind(ssn).bind(id).execute(&mut *transaction).await;
        assert_eq!(update.unwrap().rows_affected(), 1);
    }
    transaction.commit().await.unwrap();
}

/// A day passes for whoever looks for stragglers; waits until that was done.
async fn a_day_later(clinic: &Deployment) {
    clinic.in_store("DELETE FROM straggler_look").await;
    const LONG_AGO: &str = "UPDATE schedule SET fired_up_to = '2024-01-01T00:00:00+00:00' WHERE name = 'stragglers/phi'";
    until("a date for the look", async || {
        (clinic.in_store(LONG_AGO).await == 1).then_some(())
    })
    .await;
    until("the look", async || {
        let looks = clinic.count("SELECT count(*) FROM straggler_look").await;
        (looks == 1).then_some(())
    })
    .await;
}

/// A command of an operator: its exit code and what it says.
async fn rekey(clinic: &Deployment, arguments: &'static [&'static str]) -> (i32, String) {
    let state = clinic.disks.state("");
    let mut command = Command::new(program("rekey"));
    command.arg("--state-dir").arg(&state).args(arguments);
    command.current_dir(state);
    let done = tokio::task::spawn_blocking(move || command.output());
    let done = done.await.unwrap().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (done.status.code().unwrap_or(-1), said)
}

async fn latest(clinic: &Deployment) -> RotationView {
    clinic.rotation(&phi()).await.unwrap()
}

async fn needs(clinic: &Deployment) -> String {
    status(&clinic.services, &operator())
        .await
        .unwrap()
        .needs_a_person
        .join("\n")
}

/// Writes values whose form is ours, under a key that this store never had.
async fn from_another_store(clinic: &Deployment, patients: i64) {
    let mut values = ssns(clinic).await;
    values.truncate(usize::try_from(patients).unwrap());
    for (_, ssn) in &mut values {
        ssn[1..5].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    }
    put_back(clinic, &values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_a_restored_source_are_swept_a_day_later_and_what_cannot_be_is_left_in_peace() {
    let clinic = Deployment::of(120).await;
    let engine = Engine::start(&clinic.services);
    let before = ssns(&clinic).await;
    clinic.rotate(&phi()).await;
    let rotation = clinic.completes().await;
    a_day_later(&clinic).await;
    assert_eq!(latest(&clinic).await.id, rotation.id, "nothing to sweep");

    put_back(&clinic, &before).await;
    a_day_later(&clinic).await;
    let sweep = clinic.completes().await;
    assert_eq!(sweep.kind, RotationKind::Sweep);
    assert_eq!((sweep.moved, sweep.quarantined), (120, 0));
    assert_eq!(sweep.principal, "schedule:phi");
    assert_eq!(sweep.columns, ["clinic.patients.ssn".parse().unwrap()]);
    assert_eq!(clinic.under_old().await, 0);
    assert_eq!(clinic.audited("sweep.started", "phi").await, 1);
    assert_eq!(clinic.audited("sweep.completed", "phi").await, 1);
    let swept = ssns(&clinic).await;

    // A value that does not open stays below the primary key; one sweep finds that out.
    let (id, mut spoilt) = before[7].clone();
    *spoilt.last_mut().unwrap() ^= 1;
    put_back(&clinic, &[(id, spoilt)]).await;
    a_day_later(&clinic).await;
    let second = clinic.completes().await;
    assert_eq!((second.moved, second.quarantined), (0, 1));
    a_day_later(&clinic).await;
    assert_eq!(latest(&clinic).await.id, second.id);

    // It is mended, and another comes from the backup: as many as before, and not the same.
    put_back(&clinic, &swept[7..8]).await;
    put_back(&clinic, &before[8..9]).await;
    a_day_later(&clinic).await;
    let third = clinic.completes().await;
    assert_eq!((third.moved, third.quarantined), (1, 0));

    // One that an application copied with its ciphertext is one value in two rows, and left in peace too.
    let mut spoilt = before[7].1.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    put_back(
        &clinic,
        &[(before[7].0, spoilt.clone()), (before[8].0, spoilt)],
    )
    .await;
    a_day_later(&clinic).await;
    let fourth = clinic.completes().await;
    assert_eq!(fourth.quarantined, 2);
    a_day_later(&clinic).await;
    assert_eq!(latest(&clinic).await.id, fourth.id);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_cancelled_is_swept_when_a_person_asks_for_it() {
    let policy = KeyringPolicy {
        batch_rows: 20,
        ..short()
    };
    let clinic = Deployment::with(400, policy).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let id = clinic.moves().await;
    let because = "the database is busy";
    let cancelled = cancel_rotation(&clinic.services, id, because, &operator()).await;
    cancelled.unwrap();
    a_day_later(&clinic).await;
    assert_eq!(latest(&clinic).await.id, id);
    assert!(clinic.under_old().await > 0);

    let columns = ["clinic.visits.nothing".parse().unwrap()];
    let refused = sweep_keyring(&clinic.services, &phi(), &columns, &operator()).await;
    let says = refused.unwrap_err().to_string();
    assert!(says.contains("clinic.patients.ssn"), "{says}");

    let asked = sweep_keyring(&clinic.services, &phi(), &[], &operator()).await;
    let asked = asked.unwrap();
    assert_eq!(asked.outcome, SweepOutcome::Started);
    let swept = clinic.completes().await;
    assert_eq!(swept.id, asked.rotation);
    assert_eq!(clinic.under_old().await, 0);

    let (code, said) = rekey(&clinic, &["sweep", "phi", "--wait", "--timeout", "2m"]).await;
    assert!(code == 0 && said.contains("COMPLETED"), "{code}: {said}");
    assert_ne!(latest(&clinic).await.id, swept.id);
    engine.stop().await;
}

/// Nobody clears it who has not gone over all of the values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stragglers_are_told_until_they_are_moved_or_something_moves_them() {
    let clinic = Deployment::of(120).await;
    let engine = Engine::start(&clinic.services);
    let before = ssns(&clinic).await;
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    engine.stop().await;
    put_back(&clinic, &before).await;
    // Nobody moves rows.
    let engine = half(&clinic);
    a_day_later(&clinic).await;
    let sweep = latest(&clinic).await;
    assert!(sweep.state.is_live() && sweep.kind == RotationKind::Sweep);
    watch_has_looked(&clinic, "UPDATE key SET used = 4294967295 WHERE state = 'ACTIVE' AND keyring_id IN (SELECT id FROM keyring WHERE name = 'other')").await;
    assert_eq!(told(&clinic).await, None, "they are being swept");
    cancel_rotation(&clinic.services, sweep.id, "not now", &operator())
        .await
        .unwrap();
    let says = until("the alert", async || told(&clinic).await).await;
    assert!(
        says.contains("120 value(s)") && says.contains("rekey sweep phi"),
        "{says}"
    );
    engine.stop().await;

    let engine = Engine::start(&clinic.services);
    sweep_of(&clinic, &["clinic.visits.finding"]).await;
    watch_has_looked(&clinic, "UPDATE key SET used = 4294967295 WHERE state = 'ACTIVE' AND keyring_id IN (SELECT id FROM keyring WHERE name = 'signing')").await;
    assert!(told(&clinic).await.is_some(), "they are elsewhere");
    sweep_of(&clinic, &["clinic.patients.notes"]).await;
    until("the end of the alert", async || {
        told(&clinic).await.is_none().then_some(())
    })
    .await;
    assert_eq!(clinic.under_old().await, 0);
    engine.stop().await;
}

/// What people are told of stragglers.
async fn told(clinic: &Deployment) -> Option<String> {
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let mut alerts = alerts.into_iter();
    let found = alerts.find(|alert| alert.kind == AlertKind::Stragglers);
    found.map(|alert| alert.says)
}

async fn sweep_of(clinic: &Deployment, columns: &[&str]) {
    let columns: Vec<_> = columns.iter().map(|name| name.parse().unwrap()).collect();
    let asked = sweep_keyring(&clinic.services, &phi(), &columns, &operator()).await;
    let id = asked.unwrap().rotation;
    until("the sweep's end", async || {
        let view = latest(clinic).await;
        (view.id == id && view.state == RotationState::Completed).then_some(())
    })
    .await;
}

/// Uses up a key of another keyring, and waits until whoever raises alerts has seen it.
async fn watch_has_looked(clinic: &Deployment, use_up: &'static str) {
    let near = "SELECT count(*) FROM alert WHERE kind = 'USAGE_NEAR_LIMIT'";
    let before = clinic.count(near).await;
    clinic.in_store(use_up).await;
    until("a look at what alerts are raised of", async || {
        (clinic.count(near).await > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_over_much_that_is_under_unknown_keys_waits_for_a_person_who_accepts_them() {
    let clinic = Deployment::of(200).await;
    from_another_store(&clinic, 150).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let paused = until("the hold", async || {
        let view = clinic.rotation(&phi()).await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = paused.paused_because.unwrap();
    assert!(
        why.contains("150 of the 200 values of clinic.patients.ssn"),
        "{why}"
    );
    assert!(why.contains("deadbeef"), "{why}");
    assert_eq!(
        (paused.state, paused.moved),
        (RotationState::ReEncrypting, 0)
    );

    let resumed = resume_rotation(&clinic.services, paused.id, &operator()).await;
    let says = resumed.unwrap_err().to_string();
    assert!(says.contains("--accept-unknown-keys"), "{says}");
    let (code, said) = rekey(&clinic, &["rotations", "resume", "latest"]).await;
    assert!(
        code == 4 && said.contains("--accept-unknown-keys"),
        "{code}: {said}"
    );
    let again = pause_rotation(&clinic.services, paused.id, &operator()).await;
    let says = again.unwrap_err().to_string();
    assert!(
        says.contains("150 of the 200 values"),
        "why it is paused stays: {says}"
    );
    const ACCEPT: [&str; 4] = ["rotations", "resume", "latest", "--accept-unknown-keys"];
    let (code, said) = rekey(&clinic, &ACCEPT).await;
    assert_eq!(code, 0, "{said}");
    // So much in quarantine is another hold, and it is not for unknown keys.
    let ended = until("an end", async || {
        let view = clinic.rotation(&phi()).await?;
        if view.paused_because.is_some() {
            let resumed = resume_rotation(&clinic.services, view.id, &operator()).await;
            resumed.unwrap();
        }
        (view.state == RotationState::Completed).then_some(view)
    })
    .await;
    assert_eq!((ended.id, ended.quarantined), (paused.id, 150));
    let left = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    assert!(
        left.iter()
            .all(|value| value.reason == QuarantineReason::MissingKey)
    );
    engine.stop().await;
}

/// As where the URL leads to a copy with a few rows, or to an empty file of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_over_far_fewer_values_than_the_last_waits_for_a_person() {
    let clinic = Deployment::of(300).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.in_source("DELETE FROM patients WHERE id > 20").await;
    clinic.rotate(&phi()).await;
    let held = until("the hold", async || latest(&clinic).await.paused_because).await;
    assert!(held.contains(" values, and had "), "{held}");
    let id = latest(&clinic).await.id;
    resume_rotation(&clinic.services, id, &operator())
        .await
        .unwrap();
    clinic.completes().await;
    // What was counted then is what the next is compared with.
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_values_under_unknown_keys_hold_nothing_up() {
    let clinic = Deployment::of(200).await;
    from_another_store(&clinic, 99).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let rotation = clinic.completes().await;
    assert_eq!(rotation.quarantined, 99);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_that_meets_unknown_keys_or_no_source_is_in_the_status() {
    let clinic = Deployment::of(200).await;
    from_another_store(&clinic, 150).await;
    let engine = Engine::start(&clinic.services);
    a_day_later(&clinic).await;
    let says = needs(&clinic).await;
    assert!(
        says.contains("150 of the 200 values of clinic.patients.ssn"),
        "{says}"
    );
    assert_eq!(clinic.rotation(&phi()).await.map(|view| view.id), None);

    clinic
        .in_source("ALTER TABLE patients RENAME TO persons")
        .await;
    a_day_later(&clinic).await;
    // Once it is long ago that anybody looked, and not before.
    let says = needs(&clinic).await;
    assert!(!says.contains("looked at for stragglers"), "{says}");
    clinic
        .in_store("UPDATE straggler_look SET looked_at = '2024-01-01T00:00:00+00:00'")
        .await;
    let says = needs(&clinic).await;
    assert!(
        says.contains("were not looked at for stragglers since 2024-01-01"),
        "{says}"
    );
    engine.stop().await;
}
