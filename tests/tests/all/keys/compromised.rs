//! A key that is compromised: nothing is encrypted under it, and what stands under it is read until it is moved.

use std::sync::Arc;

use rekey_broker::LocalTransport;
use rekey_client::{ClientError, LeaseError};
use rekey_domain::{KeyState, RotationState};
use rekey_tests::support::{Deployment, Engine, phi, until};

const OLD: &str = "UPDATE key SET state = 'COMPROMISED' WHERE key_id IN \
    (SELECT previous_key_id FROM rotation WHERE previous_key_id IS NOT NULL)";

/// Everything but who moves rows.
fn half(clinic: &Deployment) -> (Engine, Arc<LocalTransport>) {
    let transport = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut engine = Engine::default();
    engine.listen(&clinic.services, transport.clone());
    engine.scheduler(&clinic.services);
    engine.rotator(&clinic.services, transport.clone());
    (engine, transport)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_a_key_that_is_compromised_are_read_and_moved_and_none_is_left_behind() {
    let clinic = Deployment::of(60).await;
    let (mut engine, transport) = half(&clinic);
    clinic.rotate(&phi()).await;
    clinic.reaches(&phi(), RotationState::ReEncrypting).await;
    assert_eq!(clinic.in_store(OLD).await, 1);
    clinic.assert_reads_back().await;
    engine.re_encryptor(&clinic.services, transport);
    let view = clinic.completes().await;
    assert_eq!((view.moved, view.quarantined), (clinic.values(), 0));
    assert_eq!(clinic.under_old().await, 0);
    clinic.assert_reads_back().await;
    engine.stop().await;
    let states: Vec<_> = clinic
        .keys(&phi())
        .await
        .iter()
        .map(|key| key.state)
        .collect();
    assert_eq!(states[..2], [KeyState::Compromised, KeyState::Active]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_encryptions_are_drawn_from_a_key_that_is_compromised_or_was_never_primary() {
    let clinic = Deployment::of(0).await;
    let (engine, _) = half(&clinic);
    let client = &clinic.services.client;
    let first = client.encryption_key(&phi(), 1).await.unwrap().id();
    clinic
        .in_store("UPDATE key SET state = 'COMPROMISED' WHERE state = 'ACTIVE'")
        .await;
    let more = client.encryption_key(&phi(), 1 << 20).await;
    let refused = more.map(|key| key.id()).unwrap_err();
    let expected = ClientError::Lease(LeaseError::Compromised { key: first });
    assert_eq!(refused, expected);
    // A standby that nobody switched to: what stands under it is forged.
    let standby = until("a standby", async || {
        let keys = clinic.keys(&phi()).await;
        let standby = keys.iter().find(|key| key.state == KeyState::Pending);
        standby.map(|key| key.key_id)
    })
    .await;
    clinic
        .in_store("UPDATE key SET state = 'COMPROMISED' WHERE state = 'PENDING'")
        .await;
    client.keyring_changed(&phi());
    client.decryption_key(&phi(), first).await.unwrap();
    let unread = client.decryption_key(&phi(), standby).await;
    assert!(matches!(unread, Err(ClientError::UnknownKey { .. })));
    engine.stop().await;
}
