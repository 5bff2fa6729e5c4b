//! A report in each state of a rotation: the key stops, nothing stays under it, no wait is waited out and every value is read throughout.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use rekey_broker::LocalTransport;
use rekey_domain::{
    AlertKind, Found, KeyState, KeyringPolicy, Principal, QuarantineReason, RotationKind,
    RotationReason, RotationState, Timing,
};
use rekey_operations::{
    Report, Reported, RotationView, alert_views, pause_rotation, quarantine_views,
    report_compromise, resume_rotation, rotation_view, sweep_keyring, verify_audit,
};
use rekey_store::{keyrings, rotations};
use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};
use serde_json::json;
use uuid::Uuid;

/// Longer than a test waits: what ends in time has cut them.
fn long() -> KeyringPolicy {
    let hour = Duration::from_secs(3_600);
    KeyringPolicy {
        timing: Timing {
            keyset_max_age: hour,
            grace_period: hour,
            sweep_every: hour,
        },
        ..short()
    }
}

const NO_WAIT: &str = "UPDATE rotation SET due_at = NULL, resend_at = 0";

/// A clinic whose rotation, if it has one, is in a state and stays there until it is told otherwise.
pub(super) async fn standing_in(state: Option<RotationState>, kind: RotationKind) -> Deployment {
    let clinic = Deployment::with(120, long()).await;
    let Some(state) = state else {
        let engine = half(&clinic);
        standby(&clinic).await;
        engine.stop().await;
        return clinic;
    };
    if kind == RotationKind::Sweep {
        rotate_through(&clinic).await;
        sweep_keyring(&clinic.services, &phi(), &[], &operator())
            .await
            .unwrap();
        return clinic;
    }
    match state {
        RotationState::Requested => {
            let engine = half(&clinic);
            standby(&clinic).await;
            engine.stop().await;
            request(&clinic).await;
        }
        RotationState::Distributing | RotationState::ReEncrypting => {
            let engine = half(&clinic);
            clinic.rotate(&phi()).await;
            clinic.reaches(&phi(), RotationState::Distributing).await;
            if state == RotationState::ReEncrypting {
                hurried_to(&clinic, state).await;
            }
            standby(&clinic).await;
            engine.stop().await;
        }
        RotationState::Grace => to_grace(&clinic).await,
        RotationState::Verifying | RotationState::Failed => {
            to_grace(&clinic).await;
            let engine = half(&clinic);
            hurried_to(&clinic, RotationState::Verifying).await;
            engine.stop().await;
            if state == RotationState::Failed {
                let fail = "UPDATE rotation SET state = 'FAILED', failure = 'a disk was full'";
                clinic.in_store(fail).await;
            }
        }
        over => unreachable!("{over} is over"),
    }
    clinic
}

/// Everything but who moves rows.
pub fn half(clinic: &Deployment) -> Engine {
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut engine = Engine::default();
    engine.listen(&clinic.services, transport.clone());
    engine.scheduler(&clinic.services);
    engine.rotator(&clinic.services, transport);
    engine
}

/// Waits for a state of the live rotation, as if each of its waits had just ended. A rotator that looks meanwhile
/// writes the wait back.
pub(super) async fn hurried_to(clinic: &Deployment, state: RotationState) {
    until(&state.to_string(), async || {
        clinic.in_store(NO_WAIT).await;
        let view = clinic.rotation(&phi()).await?;
        (view.state == state).then_some(())
    })
    .await;
}

async fn standby(clinic: &Deployment) {
    until("a standby", async || {
        let keys = clinic.keys(&phi()).await;
        keys.iter()
            .any(|key| key.state == KeyState::Pending)
            .then_some(())
    })
    .await;
}

async fn request(clinic: &Deployment) {
    let store = &clinic.services.store;
    let keyring = keyrings::by_name(store.db(), &phi()).await.unwrap();
    let unit = store.begin().await.unwrap();
    let reason = RotationReason::Schedule;
    rotations::start(&unit, keyring.id, reason, &operator())
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

async fn to_grace(clinic: &Deployment) {
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.reaches(&phi(), RotationState::Distributing).await;
    hurried_to(clinic, RotationState::Grace).await;
    clinic.has_a_new_standby().await;
    engine.stop().await;
}

async fn rotate_through(clinic: &Deployment) {
    to_grace(clinic).await;
    let engine = Engine::start(&clinic.services);
    hurried_to(clinic, RotationState::Completed).await;
    engine.stop().await;
}

pub(super) async fn report(clinic: &Deployment, key: &str) -> Reported {
    let report = Report {
        key: key.parse().unwrap(),
        reason: "it was in a paste".to_owned(),
        since: None,
    };
    report_compromise(&clinic.services, &report, &operator())
        .await
        .unwrap()
}

/// Runs everything until a rotation has completed.
pub(super) async fn completes(clinic: &Deployment, rotation: Uuid) -> RotationView {
    let engine = Engine::start(&clinic.services);
    let view = until("the end of an emergency", async || {
        let view = rotation_view(&clinic.services, rotation, &operator()).await;
        let view = view.unwrap();
        assert_ne!(view.state, RotationState::Failed, "{:?}", view.failure);
        (view.state == RotationState::Completed).then_some(view)
    })
    .await;
    engine.stop().await;
    view
}

/// Runs everything until the rotation of a report is over, and looks at what it left.
pub(super) async fn ends_well(clinic: &Deployment, reported: &Reported) -> RotationView {
    clinic.assert_reads_back().await;
    let view = completes(clinic, reported.rotation.unwrap()).await;
    let key = clinic.key_id(&phi(), reported.key.version).await;
    assert_eq!(clinic.under(Found::Key(key)).await, 0);
    clinic.assert_reads_back().await;
    let primary = clinic.keys(&phi()).await;
    let active: Vec<_> = primary
        .iter()
        .filter(|key| key.state == KeyState::Active)
        .collect();
    assert_eq!(active.len(), 1, "one primary");
    assert_eq!(
        clinic.under(Found::Key(active[0].key_id)).await,
        clinic.values()
    );
    assert_eq!(view.quarantined, 0);
    let certificate = view.certificate.clone().unwrap();
    let incidents = certificate["incidents"].as_array().unwrap();
    let listed = |one: &serde_json::Value| one["id"] == reported.incident.to_string();
    assert!(incidents.iter().any(listed), "{certificate:#}");
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    view
}

async fn state_of(clinic: &Deployment, version: u32) -> KeyState {
    let keys = clinic.keys(&phi()).await;
    let key = keys.iter().find(|key| key.key.version == version);
    key.unwrap().state
}

const LIVE: [RotationState; 6] = [
    RotationState::Requested,
    RotationState::Distributing,
    RotationState::ReEncrypting,
    RotationState::Grace,
    RotationState::Verifying,
    RotationState::Failed,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_key_is_replaced_whatever_its_keyring_is_in_the_middle_of() {
    let states = [None].into_iter().chain(LIVE.map(Some));
    join_all(states.map(async |state| {
        let clinic = standing_in(state, RotationKind::Switch).await;
        let before = clinic.rotation(&phi()).await;
        let keys = clinic.keys(&phi()).await;
        let primary = keys
            .iter()
            .find(|key| key.state == KeyState::Active)
            .unwrap();
        let reported = report(&clinic, &primary.key.to_string()).await;
        assert_eq!(reported.state, KeyState::Compromised, "{state:?}");
        let next = reported.replaced_by.clone().unwrap();
        let client = &clinic.services.client;
        client.keyring_changed(&phi());
        let now = client.encryption_key(&phi(), 1).await.unwrap();
        assert_eq!(
            now.id(),
            clinic.key_id(&phi(), next.version).await,
            "{state:?}"
        );
        if let Some(before) = before {
            let view = rotation_view(&clinic.services, before.id, &operator()).await;
            assert_eq!(view.unwrap().state, RotationState::Superseded, "{state:?}");
        }
        let view = ends_well(&clinic, &reported).await;
        if state.is_none() {
            let exposure = &view.certificate.unwrap()["exposure"];
            let expected =
                json!({ "moved": clinic.values(), "moved_before": 0, "left": 0, "left_under": 0 });
            assert_eq!(exposure, &expected);
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_under_a_key_that_was_replaced_is_moved_and_no_wait_is_waited_out() {
    // Before the switch the key that was replaced is an older one, which these clinics do not have.
    let states = [
        RotationState::ReEncrypting,
        RotationState::Grace,
        RotationState::Verifying,
        RotationState::Failed,
    ];
    join_all(states.map(async |state| {
        let clinic = standing_in(Some(state), RotationKind::Switch).await;
        let before = clinic.rotation(&phi()).await.unwrap().id;
        let reported = report(&clinic, "phi/1").await;
        assert_eq!(state_of(&clinic, 1).await, KeyState::Compromised);
        assert_eq!(reported.replaced_by, None);
        // A rotation that failed leaves its rows to a sweep; one under way goes on, and hurries.
        let same = reported.rotation == Some(before);
        assert_eq!(same, state != RotationState::Failed, "{state}");
        ends_well(&clinic, &reported).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_gives_way_to_a_rotation_or_to_a_sweep_of_all_columns() {
    join_all([false, true].map(async |replaced| {
        let clinic = standing_in(Some(RotationState::Verifying), RotationKind::Sweep).await;
        let sweep = clinic.rotation(&phi()).await.unwrap();
        assert_eq!(sweep.kind, RotationKind::Sweep);
        let key = if replaced { "phi/1" } else { "phi/2" };
        let reported = report(&clinic, key).await;
        let view = rotation_view(&clinic.services, sweep.id, &operator()).await;
        assert_eq!(view.unwrap().state, RotationState::Superseded);
        let view = ends_well(&clinic, &reported).await;
        let expected = match replaced {
            true => RotationKind::Sweep,
            false => RotationKind::Switch,
        };
        assert_eq!(view.kind, expected);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_reported_is_never_used_and_another_is_made() {
    for state in [
        None,
        Some(RotationState::Distributing),
        Some(RotationState::Grace),
    ] {
        let clinic = standing_in(state, RotationKind::Switch).await;
        let keys = clinic.keys(&phi()).await;
        let pending = keys.iter().find(|key| key.state == KeyState::Pending);
        let pending = pending.unwrap().key.clone();
        let reported = report(&clinic, &pending.to_string()).await;
        assert_eq!(reported.state, KeyState::Compromised);
        assert_eq!(reported.rotation, None);
        let engine = Engine::start(&clinic.services);
        standby(&clinic).await;
        if state == Some(RotationState::Distributing) {
            // Back to waiting for one, and on with it.
            clinic.reaches(&phi(), RotationState::Distributing).await;
            hurried_to(&clinic, RotationState::Grace).await;
        }
        engine.stop().await;
        let keys = clinic.keys(&phi()).await;
        let reported = keys.iter().find(|key| key.key == pending).unwrap();
        assert_eq!(reported.state, KeyState::Compromised);
        assert_eq!(clinic.under(Found::Key(reported.key_id)).await, 0);
        clinic.assert_reads_back().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_a_person_put_on_hold_goes_on_as_a_person_reports() {
    let clinic = standing_in(Some(RotationState::Grace), RotationKind::Switch).await;
    let live = clinic.rotation(&phi()).await.unwrap().id;
    pause_rotation(&clinic.services, live, &operator())
        .await
        .unwrap();
    let reported = report(&clinic, "phi/1").await;
    assert_eq!(reported.rotation, Some(live));
    ends_well(&clinic, &reported).await;
}

/// Whoever has a standby's material can make ciphertext that every check but one takes for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_under_a_key_that_was_never_primary_is_left_and_told_and_ends_no_rotation() {
    join_all([false, true].map(async |reported| {
        let clinic = standing_in(None, RotationKind::Switch).await;
        let keys = clinic.keys(&phi()).await;
        let standby = keys.iter().find(|key| key.state == KeyState::Pending);
        let standby = standby.unwrap().key.clone();
        let id = clinic.key_id(&phi(), standby.version).await;
        let rotation = match reported {
            true => {
                report(&clinic, &standby.to_string()).await;
                let engine = Engine::start(&clinic.services);
                clinic.has_a_new_standby().await;
                engine.stop().await;
                report(&clinic, "phi/1").await.rotation.unwrap()
            }
            // It is the standby after the switch, and later than the target.
            false => {
                let reported = report(&clinic, "phi/1").await;
                let engine = half(&clinic);
                clinic.has_a_new_standby().await;
                engine.stop().await;
                reported.rotation.unwrap()
            }
        };
        let id = match reported {
            true => id,
            false => clinic.key_id(&phi(), 3).await,
        };
        let forge = "UPDATE patients SET ssn = CAST(substr(ssn, 1, 1) || ? || substr(ssn, 6) AS BLOB) WHERE id = 5";
        let forge = sqlx::query(forge).bind(id.to_bytes().to_vec());
        forge.execute(&clinic.source).await.unwrap();
        let view = completes(&clinic, rotation).await;
        assert_eq!(view.quarantined, 1, "{reported}");
        let met = quarantine_views(&clinic.services, &operator())
            .await
            .unwrap();
        assert_eq!(met[0].reason, QuarantineReason::NeverActive);
        let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
        let forged = alerts
            .iter()
            .find(|alert| alert.kind == AlertKind::NeverActive);
        assert!(forged.unwrap().says.contains("1 value(s)"), "{alerts:#?}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_put_on_hold_no_machine_lets_go_on_and_the_report_names_the_command() {
    let clinic = standing_in(Some(RotationState::Grace), RotationKind::Switch).await;
    let live = clinic.rotation(&phi()).await.unwrap().id;
    pause_rotation(&clinic.services, live, &operator())
        .await
        .unwrap();
    let report = Report {
        key: "phi/1".parse().unwrap(),
        reason: "seen".to_owned(),
        since: None,
    };
    let siem = Principal::amqp("siem");
    let reported = report_compromise(&clinic.services, &report, &siem).await;
    let reported = reported.unwrap();
    let resume = format!("rekey rotations resume {live}");
    assert!(reported.notes[0].contains(&resume), "{:?}", reported.notes);
    let view = rotation_view(&clinic.services, live, &operator()).await;
    assert!(view.unwrap().paused_because.is_some());
    resume_rotation(&clinic.services, live, &operator())
        .await
        .unwrap();
    ends_well(&clinic, &reported).await;
}

/// The nightly schedule, and whoever asks beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_request_neither_takes_an_emergencys_place_nor_loses_its_incident() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let reported = report(&clinic, "phi/1").await;
    let rotation = reported.rotation.unwrap();
    let engine = Engine::start(&clinic.services);
    clinic.reaches(&phi(), RotationState::Grace).await;
    clinic.rotate(&phi()).await;
    until("the request to be taken", async || {
        let joined = clinic.audited("rotation.joined", "phi").await;
        (joined > 0).then_some(())
    })
    .await;
    engine.stop().await;
    let view = ends_well(&clinic, &reported).await;
    assert_eq!(view.id, rotation);
}
