//! What a machine's report does and leaves to a person: no standby that anybody reported is used, and what was held says which command helps.

use rekey_domain::{KeyName, KeyState, Principal, RotationKind, RotationState};
use rekey_operations::{
    IncidentView, Report, Reported, incident_view, make_key, pause_rotation, report_compromise,
    resolve_incident, status, sweep_keyring,
};
use rekey_store::{keyrings, keys};
use rekey_tests::support::{Deployment, Engine, operator, phi, short, until};
use uuid::Uuid;

use super::{
    report::{plan, report, said, with_standby},
    states::{self, hurried_to, standing_in},
};

async fn by_machine(clinic: &Deployment, key: &str) -> Reported {
    let (report, siem): (Report, _) = (said(key, "seen"), Principal::amqp("siem"));
    let reported = report_compromise(&clinic.services, &report, &siem).await;
    reported.unwrap()
}

async fn view(clinic: &Deployment, incident: Uuid) -> IncidentView {
    let view = incident_view(&clinic.services, incident, &operator()).await;
    view.unwrap()
}

async fn needs(clinic: &Deployment, incident: Uuid) -> String {
    view(clinic, incident).await.needs.unwrap_or_default()
}

async fn waiting_standby(clinic: &Deployment) -> Option<KeyName> {
    let mut keys = clinic.keys(&phi()).await.into_iter();
    let standby = keys.find(|key| key.state == KeyState::Pending);
    standby.map(|key| key.key)
}

async fn state_of(clinic: &Deployment, version: u32) -> KeyState {
    let mut keys = clinic.keys(&phi()).await.into_iter();
    keys.find(|key| key.key.version == version).unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_a_machine_reported_is_never_used_though_another_was_stopped_just_before() {
    let (clinic, engine) = with_standby(short()).await;
    assert!(by_machine(&clinic, "phi/1").await.replaced_by.is_some());
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    let dropped = by_machine(&clinic, "phi/3").await;
    assert_eq!(dropped.state, KeyState::Compromised);
    let next = until("another standby", async || waiting_standby(&clinic).await).await;
    assert_eq!(next.version, 4);
    assert_eq!(plan(&clinic, "phi/2").await.standby, Some(next.clone()));
    assert_eq!(report(&clinic, "phi/2").await.replaced_by, Some(next));
    clinic.completes().await;
    engine.stop().await;
}

/// A standby that nobody else makes.
async fn make_standby(clinic: &Deployment) {
    let services = &clinic.services;
    let db = services.store.db();
    let keyring = keyrings::by_name(db, &phi()).await.unwrap();
    let deployment = keyrings::deployment(db).await.unwrap();
    let made = make_key(&services.store, &*services.kms, deployment, &keyring).await;
    let unit = services.store.begin().await.unwrap();
    keys::insert_standby(&unit, keyring.id, made.unwrap().new)
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

/// Whoever stole a machine's password could keep the keyring from encrypting for as long as it is valid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_standbys_that_an_emergency_waits_for_a_machine_has_one_dropped_and_no_more() {
    let clinic = Deployment::of(30).await;
    clinic
        .in_store("DELETE FROM key WHERE state = 'PENDING'")
        .await;
    assert_eq!(report(&clinic, "phi/1").await.replaced_by, None);
    make_standby(&clinic).await;
    assert_eq!(
        by_machine(&clinic, "phi/2").await.state,
        KeyState::Compromised
    );
    make_standby(&clinic).await;
    let held = by_machine(&clinic, "phi/3").await;
    assert_eq!(held.state, KeyState::Pending);
    let command = "rekey compromise phi/3";
    assert!(held.notes[0].contains(command), "{:?}", held.notes);
    assert!(needs(&clinic, held.incident).await.contains(command));
    let engine = Engine::start(&clinic.services);
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(state_of(&clinic, 3).await, KeyState::Active);
    assert!(needs(&clinic, held.incident).await.contains(command));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hour_of_machines_counts_from_what_a_machine_did_and_what_was_held_is_audited_so() {
    let (clinic, engine) = with_standby(short()).await;
    by_machine(&clinic, "phi/1").await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    let held = by_machine(&clinic, "phi/2").await;
    assert_eq!(held.state, KeyState::Active);
    let written = "SELECT count(*) FROM audit_entry WHERE action = 'key.compromised' \
        AND subject = 'phi/2' AND outcome = 'held'";
    assert_eq!(clinic.count(written).await, 1);
    let an_hour_ago = "UPDATE incident SET machine_acted_at = '2024-01-01T00:00:00+00:00' \
        WHERE machine_acted_at IS NOT NULL";
    assert_eq!(clinic.in_store(an_hour_ago).await, 1);
    // A person does what a machine had said.
    let done = report(&clinic, "phi/2").await;
    assert_eq!(
        (done.incident, done.state),
        (held.incident, KeyState::Compromised)
    );
    clinic.completes().await;
    until("a standby", async || waiting_standby(&clinic).await).await;
    let next = by_machine(&clinic, "phi/3").await;
    assert_eq!(next.state, KeyState::Compromised, "{:?}", next.notes);
    engine.stop().await;
}

/// What was said of it goes to a queue's handler, which nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_persons_pause_the_incident_of_a_machines_report_names_the_command() {
    for key in ["phi/1", "phi/2"] {
        let clinic = standing_in(Some(RotationState::Grace), RotationKind::Switch).await;
        let live = clinic.rotation(&phi()).await.unwrap().id;
        pause_rotation(&clinic.services, live, &operator())
            .await
            .unwrap();
        let reported = by_machine(&clinic, key).await;
        let held = reported.rotation.unwrap();
        let resume = format!("rekey rotations resume {held}");
        let says = needs(&clinic, reported.incident).await;
        assert!(says.contains(&resume) && !says.contains("ana"), "{says}");
        let status = status(&clinic.services, &operator()).await.unwrap();
        let said = format!("incident {}: {says}", reported.incident);
        assert!(status.needs_a_person.contains(&said), "{status:#?}");
        // A further report by a person lets it go on, or is answered anew.
        report(&clinic, key).await;
        let engine = Engine::start(&clinic.services);
        clinic.completes().await;
        engine.stop().await;
        assert_eq!(needs(&clinic, reported.incident).await, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_under_a_key_is_said_once_a_census_counted_it_and_never_as_nothing() {
    let clinic = standing_in(Some(RotationState::Grace), RotationKind::Switch).await;
    // A standby that nobody waits for is not the machine's share of this hour, unless the store says so.
    by_machine(&clinic, "phi/3").await;
    let share = "UPDATE incident SET machine_acted_at = acted_at WHERE machine_acted_at IS NULL";
    assert_eq!(clinic.in_store(share).await, 1);
    let reported = by_machine(&clinic, "phi/2").await;
    assert_eq!(reported.state, KeyState::Active);
    assert_eq!(view(&clinic, reported.incident).await.exposure, None);
    let engine = Engine::start(&clinic.services);
    hurried_to(&clinic, RotationState::Completed).await;
    engine.stop().await;
    let again = states::report(&clinic, "phi/2").await;
    assert_eq!(again.incident, reported.incident);
    let exposure = view(&clinic, reported.incident).await.exposure;
    assert_eq!(exposure.unwrap().values, clinic.values());
    // Nothing is left under it after that, and it stood there all the same.
    states::ends_well(&clinic, &again).await;
    states::report(&clinic, "phi/2").await;
    let exposure = view(&clinic, reported.incident).await.exposure;
    assert_eq!(exposure.unwrap().values, clinic.values());
}

/// A sweep of some columns counts those anew, and the others count as they last were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_under_a_key_is_of_each_columns_newest_count() {
    let clinic = standing_in(Some(RotationState::Grace), RotationKind::Switch).await;
    let engine = Engine::start(&clinic.services);
    hurried_to(&clinic, RotationState::Completed).await;
    let gone = clinic.in_source("UPDATE patients SET ssn = NULL WHERE id <= 20");
    assert_eq!(gone.await, 20);
    let ssn = "clinic.patients.ssn".parse().unwrap();
    sweep_keyring(&clinic.services, &phi(), &[ssn], &operator())
        .await
        .unwrap();
    until("the end of the sweep", async || {
        let latest = clinic.rotation(&phi()).await?;
        let is_over = latest.state == RotationState::Completed;
        (is_over && latest.kind == RotationKind::Sweep).then_some(())
    })
    .await;
    engine.stop().await;
    let reported = states::report(&clinic, "phi/2").await;
    let exposure = view(&clinic, reported.incident).await.exposure.unwrap();
    assert_eq!(exposure.values, clinic.values() - 20);
    assert!(exposure.counted_from.unwrap() < exposure.counted_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_incident_of_a_key_belongs_to_the_rotation_that_moves_its_values_already() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let first = report(&clinic, "phi/1").await;
    resolve_incident(&clinic.services, first.incident, "a mistake", &operator())
        .await
        .unwrap();
    let second = report(&clinic, "phi/1").await;
    assert_ne!(second.incident, first.incident);
    assert_eq!(second.rotation, first.rotation);
    let shown = view(&clinic, second.incident).await.rotation;
    assert_eq!(shown, first.rotation);
    states::ends_well(&clinic, &second).await;
}
