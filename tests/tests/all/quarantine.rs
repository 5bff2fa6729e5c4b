//! Values in quarantine: seen with their reason, resolved by a person, or by a rotation that no longer meets them.

use rekey_domain::QuarantineReason;
use rekey_operations::{
    quarantine_view, quarantine_views, resolve_quarantined, resume_rotation, status,
};

use rekey_tests::support::{Deployment, Engine, operator, phi};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_quarantine_is_resolved_by_a_person_or_once_a_rotation_no_longer_meets_it() {
    let clinic = Deployment::of(60).await;
    let spoilt = "UPDATE patients SET ssn = CAST('123-45-6789' AS BLOB) WHERE id IN (3, 5, 8)";
    assert_eq!(clinic.in_source(spoilt).await, 3);
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.completes().await;

    let met = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    assert_eq!(met.len(), 3);
    for value in &met {
        assert_eq!(value.column.to_string(), "clinic.patients.ssn");
        assert_eq!(value.reason, QuarantineReason::NotCiphertext);
        assert!(!format!("{value:?}").contains("6789"), "{value:?}");
    }
    let told = status(&clinic.services, &operator())
        .await
        .unwrap()
        .needs_a_person;
    assert!(
        told.iter()
            .any(|need| need.contains("3 value(s) in quarantine")),
        "{told:?}"
    );

    // One is gone, one is set anew; the third stays, and a person is done with it.
    clinic.in_source("DELETE FROM patients WHERE id = 3").await;
    clinic
        .in_source("UPDATE patients SET ssn = NULL WHERE id = 5")
        .await;
    let last = met
        .iter()
        .find(|value| value.row.ends_with("rowid 8"))
        .unwrap();
    let no_reason = resolve_quarantined(&clinic.services, &[last.id], " ", &operator()).await;
    assert!(no_reason.is_err());
    let resolve = async || {
        let because = "the patient left years ago";
        resolve_quarantined(&clinic.services, &[last.id], because, &operator()).await
    };
    resolve().await.unwrap();
    let again = resolve().await.unwrap_err().to_string();
    assert!(again.contains("resolved already"), "{again}");
    let subject = last.id.to_string();
    assert_eq!(clinic.audited("quarantine.resolved", &subject).await, 1);
    let seen = quarantine_view(&clinic.services, last.id, &operator())
        .await
        .unwrap();
    assert!(seen.resolved_at.is_some());
    assert_eq!(
        quarantine_views(&clinic.services, &operator())
            .await
            .unwrap()
            .len(),
        2
    );

    let first = clinic.rotation(&phi()).await.unwrap().id;
    clinic.rotate(&phi()).await;
    rekey_tests::support::until("the second rotation", async || {
        let latest = clinic.rotation(&phi()).await?;
        (latest.id != first && latest.ended_at.is_some()).then_some(())
    })
    .await;
    engine.stop().await;
    // What a person resolved and is as it was is met again.
    let left = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    let left: Vec<_> = left.iter().map(|value| value.id).collect();
    assert_eq!(left, [last.id]);
}

/// A renumbering, a renamed table, a store from a backup: each value is in quarantine, for one cause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_leaves_much_of_a_column_behind_pauses_once_and_says_so() {
    let clinic = Deployment::of(400).await;
    clinic
        .in_source("UPDATE patients SET id = id + 100000 WHERE id > 250")
        .await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let paused = rekey_tests::support::until("the rotation to pause", async || {
        let view = clinic.rotation(&phi()).await?;
        assert!(view.ended_at.is_none(), "it did not pause: {view:?}");
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = paused.paused_because.unwrap();
    for part in [
        "clinic.patients.",
        "this pass has met",
        "quarantine list --column",
        "renumbered",
    ] {
        assert!(why.contains(part), "{why}");
    }
    for value in quarantine_views(&clinic.services, &operator())
        .await
        .unwrap()
    {
        assert_eq!(value.reason, QuarantineReason::Unopened);
    }
    resume_rotation(&clinic.services, paused.id, &operator())
        .await
        .unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert!(view.quarantined >= 150, "{view:?}");
    // It paused by itself; only who resumed it did anything.
    let certificate = view.certificate.unwrap();
    let acts = certificate["acts"].as_array().unwrap();
    let acts: Vec<_> = acts.iter().map(|act| &act["action"]).collect();
    assert_eq!(acts, ["rotation.resumed"], "{certificate}");
}
