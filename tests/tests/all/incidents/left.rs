//! Values that may stand under a compromised key, and nothing moves them: people are told until they are gone. Alerts belong to the incident of their key.

use rekey_domain::{AlertKind, KeyState, RotationKind};
use rekey_envelope::decode_base64;
use rekey_operations::{
    AlertView, acknowledge_incident, alert_views, cancel_rotation, resolve_incident, status,
};
use rekey_tests::{
    process::Process,
    support::{Deployment, operator, phi, short, until},
};

use crate::command_line::Desk;

use super::{
    report::{report, with_standby},
    states::{completes, half, standing_in},
};

async fn alert(clinic: &Deployment, kind: AlertKind, subject: &str) -> Option<AlertView> {
    let alerts = alert_views(&clinic.services, &operator()).await.unwrap();
    let is_it = |alert: &AlertView| alert.kind == kind && alert.subject == subject;
    alerts.into_iter().find(is_it)
}

/// What needs a person and is about values that nothing moves.
async fn needs(clinic: &Deployment) -> Vec<String> {
    let status = status(&clinic.services, &operator()).await.unwrap();
    let mut needs = status.needs_a_person;
    needs.retain(|need| need.contains("no rotation moves them"));
    needs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_emergency_that_was_cancelled_it_is_said_until_the_values_are_moved() {
    let clinic = standing_in(None, RotationKind::Switch).await;
    let reported = report(&clinic, "phi/1").await;
    assert_eq!(needs(&clinic).await, Vec::<String>::new());
    let rotation = reported.rotation.unwrap();
    cancel_rotation(&clinic.services, rotation, "too much load", &operator())
        .await
        .unwrap();
    acknowledge_incident(&clinic.services, reported.incident, &operator())
        .await
        .unwrap();
    let said = needs(&clinic).await;
    assert!(
        said.len() == 1 && said[0].contains("rekey compromise phi/1"),
        "{said:?}"
    );
    resolve_incident(&clinic.services, reported.incident, "done", &operator())
        .await
        .unwrap();
    assert_eq!(needs(&clinic).await.len(), 1);
    let kind = AlertKind::LeftUnderCompromised;
    let engine = half(&clinic);
    let told = until("the alert", async || alert(&clinic, kind, "phi/1").await).await;
    assert_eq!(told.incident, Some(reported.incident));
    engine.stop().await;

    let again = report(&clinic, "phi/1").await;
    completes(&clinic, again.rotation.unwrap()).await;
    assert_eq!(needs(&clinic).await, Vec::<String>::new());
    let engine = half(&clinic);
    until("the end of the alert", async || {
        let told = alert(&clinic, kind, "phi/1").await;
        told.is_none().then_some(())
    })
    .await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_about_a_key_names_that_keys_incident() {
    let (clinic, engine) = with_standby(short()).await;
    let first = report(&clinic, "phi/1").await;
    until("a standby", async || {
        let keys = clinic.keys(&phi()).await;
        keys.iter()
            .any(|key| key.state == KeyState::Pending)
            .then_some(())
    })
    .await;
    let second = report(&clinic, "phi/2").await;
    clinic.completes().await;
    let kind = AlertKind::KeyMayBeDestroyed;
    for (key, reported) in [("phi/1", first), ("phi/2", second)] {
        let told = until("the alert", async || alert(&clinic, kind, key).await).await;
        assert_eq!(told.incident, Some(reported.incident), "{key}");
    }
    engine.stop().await;
}

/// Plain text may be no ciphertext at all, or ciphertext written in another way: nobody can tell, so people are told that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_what_is_no_ciphertext_keeps_a_key_from_being_given_up_the_incident_says_so() {
    let desk = Desk::new();
    let url = desk.file("source.db").display().to_string();
    desk.configure(&format!(
        "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\nkeyset_max_age = \"1s\"\ngrace_period = \"1s\"\n\
         sweep_every = \"1s\"\nencrypt_lease = \"1s\"\n[[source]]\nname = \"clinic\"\nurl = \"sqlite://{url}\"\n\
         [[source.table]]\nname = \"patients\"\ncolumns = {{ ssn = {{ keyring = \"phi\", bind = \"row\" }} }}\n"
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    desk.on_source("INSERT INTO patients (id, uuid, ssn) VALUES (1, '1', x'706c61696e')");
    let engine = Process::spawn(desk.command(&["up"]));
    let report = ["compromise", "phi/1", "--reason", "leaked", "--wait"];
    let reported = desk.rekey(&report, b"");
    assert_eq!(reported.code, 3, "{}", reported.stderr);
    let said = "whether phi/1 may be destroyed is not known: 1 value(s)";
    let status = desk.rekey(&["status"], b"").stdout;
    assert!(status.contains(said), "{status}");
    desk.on_source("UPDATE patients SET ssn = NULL");
    assert_eq!(desk.rekey(&["sweep", "phi"], b"").code, 0);
    until("the alert that it may be destroyed", async || {
        let alerts = desk.rekey(&["alerts", "list"], b"").stdout;
        alerts.contains("KEY_MAY_BE_DESTROYED").then_some(())
    })
    .await;
    let after = desk.rekey(&["status"], b"").stdout;
    assert!(!after.contains("may be destroyed is not known"), "{after}");
    engine.terminate().await;
}

/// A value that was moved into another keyring's column is in quarantine there, and its key is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_under_which_values_stand_in_another_keyrings_column_may_not_be_destroyed() {
    let desk = Desk::new();
    let quick = "keyset_max_age = \"1s\"\ngrace_period = \"1s\"\nsweep_every = \"1s\"\nencrypt_lease = \"1s\"\n";
    let url = desk.file("source.db").display().to_string();
    desk.configure(&format!(
        "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n{quick}[[keyring]]\nname = \"two\"\npurpose = \"PHI\"\n{quick}\
         [[source]]\nname = \"clinic\"\nurl = \"sqlite://{url}\"\n[[source.table]]\nname = \"patients\"\n\
         columns = {{ ssn = {{ keyring = \"phi\", bind = \"row\" }}, notes = {{ keyring = \"two\", bind = \"row\" }} }}\n"
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let place = [
        "encrypt",
        "--column",
        "clinic.patients.notes",
        "--bind",
        "1",
    ];
    let sealed = desk.rekey(&place, b"feels well").stdout;
    let sealed = hex::encode(decode_base64(sealed.trim()).unwrap());
    desk.on_source(&format!(
        "INSERT INTO patients (id, uuid, ssn) VALUES (1, '1', x'{sealed}')"
    ));
    let engine = Process::spawn(desk.command(&["up"]));
    assert_eq!(desk.rekey(&["rotate", "phi", "--wait"], b"").code, 3);
    let reported = desk.rekey(
        &["compromise", "two/1", "--reason", "leaked", "--wait"],
        b"",
    );
    assert_ne!(reported.code, 1, "{}", reported.stderr);
    until("what stands under it to be said", async || {
        let said = desk.rekey(&["status"], b"").stdout;
        said.contains("under two/1, which is compromised, are in quarantine")
            .then_some(())
    })
    .await;
    let alerts = desk.rekey(&["alerts", "list"], b"").stdout;
    assert!(!alerts.contains("KEY_MAY_BE_DESTROYED"), "{alerts}");
    engine.terminate().await;
}
