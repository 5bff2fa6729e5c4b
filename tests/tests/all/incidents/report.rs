//! The report itself: what it refuses, what it keeps, without a standby, without the KMS, twice.

use std::{process::Command, time::Duration};

use rekey_client::{ClientError, LeaseError};
use rekey_domain::{
    AlertKind, Found, KeyState, KeyringPolicy, OnCompromise, Principal, RotationState,
};
use rekey_operations::{
    CompromisePlan, OperationError, Report, Reported, acknowledge_incident, alert_views,
    audit_entry, cancel_rotation, certificates::Signature, compromise_plan, incident_view,
    incident_views, pause_rotation, publish, report_compromise, resolve_incident, status,
};
use rekey_testkit::program;
use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};

pub fn said(key: &str, reason: &str) -> Report {
    Report {
        key: key.parse().unwrap(),
        reason: reason.to_owned(),
        since: None,
    }
}

pub async fn report(clinic: &Deployment, key: &str) -> Reported {
    let report = said(key, "it was in a paste");
    report_compromise(&clinic.services, &report, &operator())
        .await
        .unwrap()
}

pub async fn plan(clinic: &Deployment, key: &str) -> CompromisePlan {
    let key = key.parse().unwrap();
    let plan = compromise_plan(&clinic.services, &key, &operator()).await;
    plan.unwrap()
}

pub async fn with_standby(policy: KeyringPolicy) -> (Deployment, Engine) {
    let clinic = Deployment::with(60, policy).await;
    let engine = Engine::start(&clinic.services);
    until("a standby", async || {
        (clinic.keys(&phi()).await.len() == 2).then_some(())
    })
    .await;
    (clinic, engine)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_refused_with_one_clear_answer_and_nothing_is_changed() {
    let (clinic, engine) = with_standby(short()).await;
    engine.stop().await;
    let now = clinic.services.store.now().await.unwrap();
    let ahead = Report {
        since: Some(now + Duration::from_secs(60)),
        ..said("phi/1", "it leaked")
    };
    let refused = [
        (said("phi/1", "  "), "for a reason"),
        (said("phi/1", &"x".repeat(100_000)), "at most 4096"),
        (said("phi/9", "it leaked"), "phi/1"),
        (said("nobody/1", "it leaked"), "keyring nobody"),
        (said("deadbeef", "it leaked"), "key deadbeef"),
        (ahead, "by the store's clock"),
    ];
    for (report, expected) in refused {
        let refused = report_compromise(&clinic.services, &report, &operator()).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let stranger = Principal::app("portal");
    let refused = report_compromise(&clinic.services, &said("phi/1", "it leaked"), &stranger).await;
    assert!(matches!(refused, Err(OperationError::NotAllowed { .. })));
    // Whoever names keys that there are not may be guessing.
    let guessed = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    assert_eq!(clinic.count(guessed).await, 3);
    let refused = "SELECT max(sequence) FROM audit_entry WHERE action = 'request.refused'";
    let refused = clinic.count(refused).await;
    let (_, details) = audit_entry(&clinic.services, refused, &operator())
        .await
        .unwrap();
    let details = details.unwrap().to_string();
    assert!(details.contains("deadbeef"), "{details}");
    assert_eq!(clinic.count("SELECT count(*) FROM incident").await, 0);
    assert_eq!(clinic.count("SELECT count(*) FROM rotation").await, 0);
    assert_eq!(clinic.keys(&phi()).await[0].state, KeyState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reporter_says_is_read_in_the_incident_and_stands_nowhere_in_clear() {
    let (clinic, engine) = with_standby(short()).await;
    let canary = "patient 123-45-6789 told us";
    let reported = report_compromise(&clinic.services, &said("phi/1", canary), &operator()).await;
    let id = reported.unwrap().incident;
    let view = incident_view(&clinic.services, id, &operator())
        .await
        .unwrap();
    assert_eq!(view.reports[0].said.as_deref(), Some(canary));
    clinic.completes().await;
    engine.stop().await;
    assert_stands_nowhere(&clinic, b"123-45-6789");
}

fn assert_stands_nowhere(clinic: &Deployment, words: &[u8]) {
    let file = std::fs::read(clinic.disks.state("store.db")).unwrap();
    let wal = std::fs::read(clinic.disks.state("store.db-wal")).unwrap_or_default();
    for bytes in [file, wal] {
        let holds = bytes.windows(words.len()).any(|bytes| bytes == words);
        assert!(!holds, "the reason stands in the store in clear");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_report_is_a_note_to_the_first_and_people_take_an_incident_up_and_end_it() {
    let (clinic, engine) = with_standby(short()).await;
    let first = report(&clinic, "phi/1").await;
    let by_id = clinic.key_id(&phi(), 1).await.to_string();
    for _ in 0..3 {
        let again = report(&clinic, &by_id).await;
        assert!(again.again);
        assert_eq!(again.incident, first.incident);
        assert_eq!(again.replaced_by, None);
    }
    assert_eq!(clinic.count("SELECT count(*) FROM rotation").await, 1);
    let services = &clinic.services;
    let needs = async || {
        let status = status(services, &operator()).await.unwrap();
        let needs = status.needs_a_person.into_iter();
        needs.filter(|need| need.contains("incident")).count()
    };
    assert_eq!(needs().await, 1);
    acknowledge_incident(services, first.incident, &operator())
        .await
        .unwrap();
    assert_eq!(needs().await, 0);
    let twice = acknowledge_incident(services, first.incident, &operator()).await;
    assert!(twice.unwrap_err().to_string().contains("ACKNOWLEDGED"));
    clinic.completes().await;
    resolve_incident(services, first.incident, "keys were replaced", &operator())
        .await
        .unwrap();
    let view = incident_view(services, first.incident, &operator())
        .await
        .unwrap();
    assert_eq!(view.reports.len(), 6, "{:#?}", view.reports);
    assert_eq!(clinic.keys(&phi()).await[0].state, KeyState::Compromised);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_reports_at_once_one_replaces_the_key() {
    let (clinic, engine) = with_standby(short()).await;
    let reports = (0..8).map(|_| report(&clinic, "phi/1"));
    let reported = futures::future::join_all(reports).await;
    let replaced = reported.iter().filter(|one| one.replaced_by.is_some());
    assert_eq!(replaced.count(), 1);
    let incidents = incident_views(&clinic.services, &operator()).await.unwrap();
    assert_eq!(incidents.len(), 1);
    clinic.completes().await;
    engine.stop().await;
}

/// Under a key that seals no column no row is moved, however often it is reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_reports_of_a_key_that_seals_no_column_make_no_sweeps() {
    let (clinic, engine) = with_standby(short()).await;
    let signing = "signing".parse().unwrap();
    until("its standby", async || {
        (clinic.keys(&signing).await.len() == 2).then_some(())
    })
    .await;
    let would = plan(&clinic, "signing/1").await.would;
    assert!(
        would.contains("unproved") && !would.contains("row"),
        "{would}"
    );
    let first = report(&clinic, "signing/1").await;
    clinic.reaches(&signing, RotationState::Completed).await;
    let sweeps = "SELECT count(*) FROM rotation WHERE keyring_id IN \
        (SELECT id FROM keyring WHERE name = 'signing')";
    let before = clinic.count(sweeps).await;
    for _ in 0..3 {
        let again = report(&clinic, "signing/1").await;
        assert_eq!((again.incident, again.rotation), (first.incident, None));
    }
    assert_eq!(clinic.count(sweeps).await, before);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_marks_each_certificate_of_a_compromised_key_as_unproved() {
    let (clinic, engine) = with_standby(short()).await;
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    let signature = async || clinic.rotation(&phi()).await?.certificate_signature;
    until("a signature", async || {
        (signature().await? == Signature::Signed).then_some(())
    })
    .await;
    report(&clinic, "signing/1").await;
    assert_eq!(signature().await, Some(Signature::Unproved));
    engine.stop().await;
    let mut list = Command::new(program("rekey"));
    list.current_dir(clinic.disks.state(""));
    list.args(["--state-dir", ".", "rotations", "list"]);
    let listed = String::from_utf8(list.output().unwrap().stdout).unwrap();
    let of_phi = listed.lines().find(|line| line.contains("phi/2"));
    assert!(of_phi.unwrap().contains("unproved"), "{listed}");
}

/// No standby, and nobody who makes one.
async fn without_standby(on_compromise: OnCompromise) -> Deployment {
    let policy = KeyringPolicy {
        on_compromise,
        ..short()
    };
    let clinic = Deployment::with(60, policy).await;
    let none = "DELETE FROM key WHERE state = 'PENDING'";
    assert!(clinic.in_store(none).await > 0);
    clinic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_standby_nothing_is_encrypted_until_there_is_one_and_it_is_read_all_the_while() {
    let clinic = without_standby(OnCompromise::Stop).await;
    let first = clinic.key_id(&phi(), 1).await;
    let reported = report(&clinic, "phi/1").await;
    assert_eq!(
        (reported.state, &reported.replaced_by),
        (KeyState::Compromised, &None)
    );
    assert!(
        reported.notes[0].contains("no standby"),
        "{:?}",
        reported.notes
    );
    clinic.services.client.keyring_changed(&phi());
    let refused = clinic.services.client.encryption_key(&phi(), 1).await;
    let refused = refused.map(|key| key.id()).unwrap_err();
    assert_eq!(
        refused,
        ClientError::Lease(LeaseError::Compromised { key: first })
    );
    clinic.assert_reads_back().await;
    let stands = status(&clinic.services, &operator()).await.unwrap();
    let of_phi = stands.keyrings.iter().find(|(name, _)| name == "phi");
    assert_eq!(of_phi.unwrap().1, None, "it encrypts nothing any more");
    // It cannot be cancelled as long as the keyring has no primary.
    let rotation = reported.rotation.unwrap();
    let cancelled = cancel_rotation(&clinic.services, rotation, "no", &operator()).await;
    let refused = cancelled.unwrap_err().to_string();
    assert!(refused.contains("compromised"), "{refused}");
    let engine = Engine::start(&clinic.services);
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.under(Found::Key(first)).await, 0);
    clinic.assert_reads_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stops_once_replaced_encrypts_until_then_and_is_compromised_after() {
    let clinic = without_standby(OnCompromise::StopOnceReplaced).await;
    let first = clinic.key_id(&phi(), 1).await;
    let reported = report(&clinic, "phi/1").await;
    assert_eq!(reported.state, KeyState::Active);
    clinic.services.client.keyring_changed(&phi());
    let key = clinic.services.client.encryption_key(&phi(), 1).await;
    assert_eq!(key.unwrap().id(), first);
    assert!(report(&clinic, "phi/1").await.again);
    let rotation = reported.rotation.unwrap();
    let cancelled = cancel_rotation(&clinic.services, rotation, "no", &operator()).await;
    let refused = cancelled.unwrap_err().to_string();
    assert!(refused.contains("encrypted under that key"), "{refused}");
    let paused = pause_rotation(&clinic.services, rotation, &operator()).await;
    let refused = paused.unwrap_err().to_string();
    assert!(refused.contains("until it has switched"), "{refused}");
    let engine = Engine::start(&clinic.services);
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.keys(&phi()).await[0].state, KeyState::Compromised);
    assert_eq!(clinic.under(Found::Key(first)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_audit_log_is_replaced_and_the_log_goes_on() {
    let (clinic, engine) = with_standby(short()).await;
    let audit = "audit".parse().unwrap();
    let reported = report(&clinic, "audit/1").await;
    let rotation = reported.rotation.unwrap();
    clinic.reaches(&audit, RotationState::Completed).await;
    engine.stop().await;
    let view = rekey_operations::rotation_view(&clinic.services, rotation, &operator()).await;
    assert_eq!(view.unwrap().state, RotationState::Completed);
    let states: Vec<_> = clinic
        .keys(&audit)
        .await
        .iter()
        .map(|key| key.state)
        .collect();
    assert_eq!(states[..2], [KeyState::Compromised, KeyState::Active]);
    let verdict = rekey_operations::verify_audit(&clinic.services, &operator()).await;
    assert_eq!(verdict.unwrap().problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_replaces_one_key_an_hour_and_lets_nothing_go_on_that_a_person_held() {
    let (clinic, engine) = with_standby(short()).await;
    let siem = Principal::amqp("siem");
    let by_machine = async |key: &str| {
        report_compromise(&clinic.services, &said(key, "seen"), &siem)
            .await
            .unwrap()
    };
    assert!(by_machine("phi/1").await.replaced_by.is_some());
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    let second = by_machine("phi/2").await;
    assert_eq!((second.state, second.rotation), (KeyState::Active, None));
    assert!(
        second.notes[0].contains("rekey compromise phi/2"),
        "{:?}",
        second.notes
    );
    // A person is believed.
    let third = report(&clinic, "phi/2").await;
    assert!(third.replaced_by.is_some());
    assert_eq!(third.incident, second.incident);
    clinic.completes().await;
    engine.stop().await;
}

fn event(id: &str, key: &str, reason: &str) -> Vec<u8> {
    serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": "/scanner",
        "type": "rekey.key.compromised.v1",
        "time": "2026-11-30T00:00:00Z",
        "datacontenttype": "application/json",
        "data": { "key": key, "reason": reason },
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_by_event_counts_once_and_its_words_stand_nowhere_in_clear() {
    let (clinic, engine) = with_standby(short()).await;
    let siem = Principal::amqp("siem");
    let told = event("1", "phi/1", "patient 123-45-6789 told us");
    for _ in 0..50 {
        publish(&clinic.services, &told, &siem).await.unwrap();
    }
    let incidents = incident_views(&clinic.services, &operator()).await.unwrap();
    assert_eq!(incidents.len(), 1);
    let said = incident_view(&clinic.services, incidents[0].id, &operator()).await;
    assert_eq!(said.unwrap().reports.len(), 1);
    clinic.completes().await;
    let unknown = publish(&clinic.services, &event("2", "deadbeef", "seen"), &siem).await;
    assert!(unknown.unwrap_err().to_string().contains("deadbeef"));
    // A broker's user is written down by whoever admits, others here: who names keys that there are not may be guessing.
    let guessed = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    assert_eq!(clinic.count(guessed).await, 0);
    let by_hand = publish(
        &clinic.services,
        &event("4", "deadbeef", "seen"),
        &operator(),
    )
    .await;
    assert!(by_hand.is_err());
    assert_eq!(clinic.count(guessed).await, 1);
    let ahead = String::from_utf8(event("3", "phi/2", "seen")).unwrap();
    let ahead = ahead.replace("2026-", "2999-").into_bytes();
    let refused = publish(&clinic.services, &ahead, &siem).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("by the store's clock"), "{refused}");
    assert_eq!(clinic.keys(&phi()).await[1].state, KeyState::Active);
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(
        kinds,
        [
            AlertKind::UnknownKeyReported,
            AlertKind::UnknownKeyReported,
            AlertKind::KeyMayBeDestroyed
        ]
    );
    assert_eq!(alerts[2].subject, "phi/1");
    engine.stop().await;
    assert_stands_nowhere(&clinic, b"123-45-6789");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_key_of_the_audit_log_is_opened_the_report_is_taken_without_its_words() {
    let (clinic, engine) = with_standby(short()).await;
    engine.stop().await;
    // A process that has opened nothing yet, and nothing that it can open.
    let other = clinic.process("late").await;
    let other = other.acting_as(&operator());
    clinic
        .in_store("UPDATE key SET wrapped = x'00' WHERE keyring_id IN (SELECT id FROM keyring WHERE name = 'audit')")
        .await;
    let reported = report_compromise(&other, &said("phi/1", "it leaked"), &operator()).await;
    let reported = reported.unwrap();
    assert!(reported.replaced_by.is_some());
    assert!(
        reported.notes[0].contains("could not be sealed"),
        "{:?}",
        reported.notes
    );
    let id = reported.incident;
    let view = incident_view(&clinic.services, id, &operator())
        .await
        .unwrap();
    assert!(view.withheld.is_some());
    assert_eq!(view.reports[0].said, None);
    let verdict = rekey_operations::verify_audit(&clinic.services, &operator()).await;
    let verdict = verdict.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert_eq!(verdict.notes.len(), 3, "{:?}", verdict.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hears_nothing_encrypts_under_it_no_longer_than_its_lease() {
    let (clinic, engine) = with_standby(short()).await;
    let other = clinic.process("portal").await;
    let first = clinic.key_id(&phi(), 1).await;
    assert_eq!(
        other.client.encryption_key(&phi(), 1).await.unwrap().id(),
        first
    );
    report(&clinic, "phi/1").await;
    let began = std::time::Instant::now();
    until("the new key", async || {
        let key = other.client.encryption_key(&phi(), 1).await.ok()?;
        (key.id() != first).then_some(())
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    clinic.completes().await;
    engine.stop().await;
}
