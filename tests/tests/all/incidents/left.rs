//! Values that may stand under a compromised key, and nothing moves them: people are told until they are gone. Alerts belong to the incident of their key.

use rekey_domain::{AlertKind, KeyState, RotationKind};
use rekey_operations::{
    AlertView, acknowledge_incident, alert_views, cancel_rotation, resolve_incident, status,
};
use rekey_tests::support::{Deployment, operator, phi, short, until};

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
