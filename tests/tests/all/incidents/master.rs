//! The master key is reported: every keyring gets a key that was made under another one, and encrypts all the while.

use std::collections::BTreeSet;

use rekey_domain::{BindValue, KeyState, RotationState};
use rekey_operations::{
    MasterReport, MasterReported, OperationError, key_views, master_view, report_master_compromise,
    rotation_view, verify_audit,
};
use rekey_tests::support::{Deployment, Engine, operator, until};

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
        let rotation = said.rotation.unwrap();
        until("the end of each emergency", async || {
            let view = rotation_view(&clinic.services, rotation, &operator()).await;
            (view.unwrap().state == RotationState::Completed).then_some(())
        })
        .await;
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

/// Every key, by its name, and its state.
async fn keys(clinic: &Deployment) -> Vec<(String, KeyState)> {
    let keys = key_views(&clinic.services, &operator()).await.unwrap();
    keys.into_iter()
        .map(|key| (key.key.to_string(), key.state))
        .collect()
}
