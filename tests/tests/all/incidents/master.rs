//! The master key is reported: every keyring gets a key that was made under another one, and encrypts all the while.

use std::collections::BTreeSet;

use rekey_domain::{AlertKind, BindValue, KeyState, RotationKind, RotationState};
use rekey_operations::{
    AlertView, MasterReport, MasterReported, OperationError, Services, StartWith, alert_views,
    key_views, make_key, master_view, report_compromise, report_master_compromise, rotate_master,
    rotation_view, verify_audit,
};
use rekey_store::{
    keyrings::{self, Keyring},
    keys::{self, NewKey},
};
use rekey_tests::support::{Deployment, Engine, operator, phi, until};
use uuid::Uuid;

use super::report::said as said_of_key;

fn said(master_key: &str) -> MasterReport {
    MasterReport {
        master_key: master_key.to_owned(),
        reason: "a copy of its file was found".to_owned(),
        since: None,
    }
}

async fn report(clinic: &Deployment, master_key: &str) -> Result<MasterReported, OperationError> {
    report_master_compromise(&clinic.services, &said(master_key), &operator()).await
}

/// Whoever has the master key and a copy of the store has the standbys too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_keyring_gets_a_key_that_was_made_under_another_master_key() {
    let clinic = Deployment::of(40).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let unknown = report(&clinic, "master-that-never-was").await.unwrap_err();
    assert!(unknown.to_string().contains(&before), "{unknown}");
    let known: Vec<_> = keys(&clinic).await.into_iter().map(|(id, _)| id).collect();

    let reported = report(&clinic, &before).await.unwrap();
    assert!(reported.rotation.made && reported.rotation.failed.is_empty());
    assert_eq!(reported.reported.len(), known.len() / 2);
    clinic.assert_reads_back().await;
    // It goes on until there is another.
    let (client, bind) = (&clinic.services.client, [BindValue::from(1_000)]);
    let sealed = client.encrypt("clinic.patients.ssn", &bind, b"still here");
    sealed.await.unwrap();

    let engine = Engine::start(&clinic.services);
    for said in &reported.reported {
        completes(&clinic, said.rotation.unwrap()).await;
    }
    engine.stop().await;
    clinic.assert_reads_back().await;
    for (id, state) in keys(&clinic).await {
        assert_eq!(
            known.contains(&id),
            state == KeyState::Compromised,
            "{state}"
        );
    }
    let view = master_view(&clinic.services, &operator()).await.unwrap();
    assert!(view.keys.len() == 1 && view.keys[0].current, "{view:?}");
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    // Nothing is left to report.
    assert!(report(&clinic, &before).await.is_err());
}

/// As if the process had died before it wrapped anything anew.
#[tokio::test]
async fn cut_short_the_same_report_goes_on_and_reports_no_key_twice() {
    let clinic = Deployment::of(8).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let first = report(&clinic, &before).await.unwrap();
    let forget = "UPDATE key SET master_key = (SELECT subject FROM audit_entry \
        WHERE action = 'master-key.rotation-started' ORDER BY sequence LIMIT 1)";
    clinic.in_store(forget).await;
    let again = report(&clinic, &before).await.unwrap();
    assert!(first.rotation.made && !again.rotation.made);
    let incidents = |reported: MasterReported| -> BTreeSet<_> {
        reported
            .reported
            .into_iter()
            .map(|one| one.incident)
            .collect()
    };
    assert_eq!(incidents(first), incidents(again));
}

/// An emergency that waits for its key takes what is made under the leaked master key, unless that is kept from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_that_waits_for_its_key_takes_none_that_was_made_under_the_reported_master_key()
 {
    let clinic = Deployment::of(8).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    for key in ["audit/2", "audit/1"] {
        report_key(&clinic, key).await;
    }
    make_standby(&clinic, "audit").await;
    let reported = report(&clinic, &before).await.unwrap();
    let of_audit = reported
        .reported
        .iter()
        .find(|one| one.key.to_string() == "audit/1");
    assert!(of_audit.is_some_and(|one| one.again), "{reported:?}");
    let engine = Engine::start(&clinic.services);
    let primary = until("another key", async || {
        let keys = keys(&clinic).await;
        let is_it = |(key, state): &&(String, KeyState)| {
            key.starts_with("audit/") && *state == KeyState::Active && key != "audit/1"
        };
        keys.iter().find(is_it).map(|(key, _)| key.clone())
    })
    .await;
    engine.stop().await;
    assert_eq!(primary, "audit/4");
    let third = keys(&clinic)
        .await
        .into_iter()
        .find(|(key, _)| key == "audit/3");
    assert_eq!(third.unwrap().1, KeyState::Compromised);
}

/// The KMS made it before the report, and its rotator stores it after.
#[tokio::test]
async fn a_standby_that_was_asked_for_before_the_report_is_not_stored_after_it() {
    let clinic = Deployment::of(8).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let phi = keyring(&clinic, "phi").await;
    let made = made(&clinic, &phi).await;
    report(&clinic, &before).await.unwrap();
    let unit = clinic.services.store.begin().await.unwrap();
    let refused = keys::insert_standby(&unit, phi.id, made).await.unwrap_err();
    assert!(
        refused.is_retryable() && refused.to_string().contains(&before),
        "{refused}"
    );
}

/// The data keys are the same under every master key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_that_was_replaced_is_reported_as_the_present_one_is() {
    let clinic = Deployment::of(40).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let known = keys(&clinic).await;
    let rotated = rotate_master(&clinic.services, StartWith::WhatIsLeft, &operator()).await;
    let present = rotated.unwrap().master_key;
    let reported = report(&clinic, &before).await.unwrap();
    assert!(!reported.rotation.made && reported.rotation.master_key == present);
    assert_eq!(reported.reported.len(), known.len() / 2);
    let engine = Engine::start(&clinic.services);
    for said in &reported.reported {
        completes(&clinic, said.rotation.unwrap()).await;
    }
    engine.stop().await;
    clinic.assert_reads_back().await;
    for (id, state) in keys(&clinic).await {
        let was_there = known.iter().any(|(key, _)| *key == id);
        assert_eq!(was_there, state == KeyState::Compromised, "{id} {state}");
    }
    let again = report(&clinic, &before).await.unwrap_err();
    assert!(again.to_string().contains("was reported before"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_primary_key_that_never_was_under_it_only_what_its_earlier_keys_hold_is_moved() {
    let clinic = Deployment::of(40).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    engine.stop().await;
    let rotated = rotate_master(&clinic.services, StartWith::WhatIsLeft, &operator()).await;
    rotated.unwrap();
    let younger = "UPDATE key SET created_at = '2099-01-01T00:00:00+00:00' WHERE version > 1";
    clinic.in_store(younger).await;
    let reported = report(&clinic, &before).await.unwrap();
    let of_phi = reported
        .reported
        .iter()
        .find(|one| one.key.to_string() == "phi/1")
        .unwrap();
    assert_eq!(of_phi.state, KeyState::Compromised);
    assert!(
        !reported
            .reported
            .iter()
            .any(|one| one.key.to_string() == "phi/2")
    );
    let kind = clinic.rotation(&phi()).await.unwrap();
    assert_eq!(
        (Some(kind.id), kind.kind),
        (of_phi.rotation, RotationKind::Sweep)
    );
    let engine = Engine::start(&clinic.services);
    completes(&clinic, of_phi.rotation.unwrap()).await;
    engine.stop().await;
    let states: Vec<_> = clinic
        .keys(&phi())
        .await
        .iter()
        .map(|key| key.state)
        .collect();
    assert_eq!(
        states,
        [KeyState::Compromised, KeyState::Active, KeyState::Pending]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reports_at_once_make_one_master_key_and_leave_no_key_under_another() {
    let clinic = Deployment::of(8).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let (one, other) = tokio::join!(report(&clinic, &before), report(&clinic, &before));
    let made = [one, other].map(|taken| taken.unwrap().rotation.made);
    assert!(made[0] != made[1], "{made:?}");
    let view = master_view(&clinic.services, &operator()).await.unwrap();
    assert!(view.keys.len() == 1 && view.keys[0].current, "{view:?}");
    let person = operator();
    let again = rotate_master(&clinic.services, StartWith::WhatIsLeft, &person);
    let (one, other) = tokio::join!(again, report(&clinic, &view.master_key));
    assert!(one.is_ok() && other.is_ok());
    let view = master_view(&clinic.services, &operator()).await.unwrap();
    assert!(view.keys.len() == 1 && view.keys[0].current, "{view:?}");
}

async fn report_key(clinic: &Deployment, key: &str) {
    let said = said_of_key(key, "it stood in a paste");
    let taken = report_compromise(&clinic.services, &said, &operator()).await;
    taken.unwrap();
}

async fn keyring(clinic: &Deployment, name: &str) -> Keyring {
    let name = name.parse().unwrap();
    keyrings::by_name(clinic.services.store.db(), &name)
        .await
        .unwrap()
}

/// A key as a rotator has it before it stores it.
async fn made(clinic: &Deployment, keyring: &Keyring) -> NewKey {
    let Services { store, kms, .. } = &clinic.services;
    let deployment = keyrings::deployment(store.db()).await.unwrap();
    let made = make_key(store, &**kms, deployment, keyring).await;
    made.unwrap().new
}

async fn make_standby(clinic: &Deployment, name: &str) {
    let keyring = keyring(clinic, name).await;
    let made = made(clinic, &keyring).await;
    let unit = clinic.services.store.begin().await.unwrap();
    keys::insert_standby(&unit, keyring.id, made).await.unwrap();
    unit.commit().await.unwrap();
}

async fn completes(clinic: &Deployment, rotation: Uuid) {
    until("the end of each emergency", async || {
        let view = rotation_view(&clinic.services, rotation, &operator()).await;
        (view.unwrap().state == RotationState::Completed).then_some(())
    })
    .await;
}

/// Every key, by its name, and its state.
async fn keys(clinic: &Deployment) -> Vec<(String, KeyState)> {
    let keys = key_views(&clinic.services, &operator()).await.unwrap();
    keys.into_iter()
        .map(|key| (key.key.to_string(), key.state))
        .collect()
}

/// Whoever gave the command may have been cut off behind its first unit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_was_cut_short_is_told_until_it_is_said_again() {
    let clinic = Deployment::of(0).await;
    let master_key = clinic.services.kms.describe().await.unwrap().id;
    let noted = format!(
        "INSERT INTO reported_master_key (id, master_key, reported_at) VALUES (randomblob(16), '{master_key}', '2026-11-30T00:00:00+00:00')"
    );
    clinic.in_store(sqlx::AssertSqlSafe(noted)).await;
    let engine = Engine::start(&clinic.services);
    let told =
        "SELECT count(*) FROM alert WHERE kind = 'MASTER_REPORT_UNFINISHED' AND cleared_at IS NULL";
    until("it to be told", async || {
        (clinic.count(told).await == 1).then_some(())
    })
    .await;
    report(&clinic, &master_key).await.unwrap();
    until("its end", async || {
        (clinic.count(told).await == 0).then_some(())
    })
    .await;
    engine.stop().await;
}

/// Ordinary rotations replaced some of them since, a machine's report of another was held, and one was not wrapped anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_was_cut_short_counts_every_key_that_it_did_not_come_to() {
    let clinic = Deployment::of(8).await;
    let master_key = clinic.services.kms.describe().await.unwrap().id;
    let exposed = keys(&clinic).await.len() / 2;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    engine.stop().await;
    let keep = "CREATE TABLE kept AS SELECT key_id, wrapped, master_key FROM key \
        WHERE keyring_id = (SELECT id FROM keyring WHERE name = 'audit')";
    clinic.in_store(keep).await;
    let rotated = rotate_master(&clinic.services, StartWith::WhatIsLeft, &operator()).await;
    rotated.unwrap();
    for set in [
        "UPDATE key SET created_at = '2099-01-01T00:00:00+00:00' WHERE version > 1",
        "UPDATE key SET reported_at = '2026-11-30T00:00:00+00:00' WHERE version = 1 AND keyring_id = \
            (SELECT id FROM keyring WHERE name = 'other')",
    ] {
        clinic.in_store(set).await;
    }
    let put_back = "UPDATE key SET wrapped = kept.wrapped, master_key = kept.master_key FROM kept \
        WHERE key.key_id = kept.key_id AND key.version = 2";
    assert_eq!(clinic.in_store(put_back).await, 1);
    let noted = format!(
        "INSERT INTO reported_master_key (id, master_key, reported_at, exposes_until) VALUES \
            (randomblob(16), '{master_key}', '2026-11-30T00:00:00+00:00', strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))"
    );
    clinic.in_store(sqlx::AssertSqlSafe(noted)).await;
    let engine = Engine::start(&clinic.services);
    let told = until("it to be told", async || unfinished(&clinic).await).await;
    assert!(told.contains(&format!(" {} key(s)", exposed + 1)), "{told}");
    let left = report(&clinic, &master_key).await.unwrap();
    assert_eq!(left.reported.len(), exposed);
    until("its end", async || {
        unfinished(&clinic).await.is_none().then_some(())
    })
    .await;
    engine.stop().await;
}

/// What the alert says, while it is raised.
async fn unfinished(clinic: &Deployment) -> Option<String> {
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let is_it = |alert: &&AlertView| alert.kind == AlertKind::MasterReportUnfinished;
    alerts.iter().find(is_it).map(|alert| alert.says.clone())
}
