//! When a client may encrypt, and with which key.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use rekey_domain::{Algorithm, BindValue, KeyId};
use rekey_envelope::{AeadError, Ciphertext};

use super::fake::{COLUMN, ENCRYPT_LEASE, Setup, keyring};
use crate::{ClientError, LeaseError, locked::locked};

const ROW: [BindValue; 1] = [BindValue::Integer(7)];
const SECOND: Duration = Duration::from_secs(1);

fn key_of(ciphertext: &[u8]) -> KeyId {
    Ciphertext::parse(ciphertext).unwrap().key_id()
}

async fn encrypts_with(setup: &Setup) -> Result<KeyId, ClientError> {
    let ciphertext = setup.client.encrypt(COLUMN, &ROW, b"123-45-6789").await?;
    Ok(key_of(&ciphertext))
}

#[tokio::test]
async fn a_value_comes_back_and_its_uses_are_reported() {
    let setup = Setup::new().await;
    let ciphertext = setup.client.encrypt(COLUMN, &ROW, b"123").await.unwrap();
    let plaintext = setup.client.decrypt(COLUMN, &ROW, &ciphertext).await;
    assert_eq!(*plaintext.unwrap(), b"123");

    setup.cut_off(true);
    assert!(setup.client.flush().await.unwrap_err().is_retryable());
    setup.cut_off(false);
    setup.client.flush().await.unwrap();
    setup.client.flush().await.unwrap();
    let reported = locked(&setup.leases.reported);
    let counts = |used: &crate::Use| (used.key, used.encrypted, used.decrypted);
    let counts: Vec<_> = reported.iter().map(counts).collect();
    assert_eq!(counts, [(KeyId::new(1), 1, 1)]);
}

#[tokio::test]
async fn a_key_encrypts_with_its_own_algorithm_whatever_the_primary_has() {
    let setup = Setup::new().await;
    let old = setup.client.encrypt(COLUMN, &ROW, b"123").await.unwrap();
    let cbc = setup.make_key_of(2, Algorithm::Aes256Cbc).await;
    locked(&setup.leases.keys).push(cbc);
    setup.make_primary(2);
    setup.client.keyring_changed(&keyring());
    let new = setup.client.encrypt(COLUMN, &ROW, b"123").await.unwrap();
    // Prefix, nonce and tag; of CBC a block in place of three bytes.
    assert_eq!((old.len(), new.len()), (5 + 12 + 3 + 16, 5 + 16 + 16 + 32));
    for (id, ciphertext) in [(1, old), (2, new)] {
        assert_eq!(key_of(&ciphertext), KeyId::new(id));
        let plaintext = setup.client.decrypt(COLUMN, &ROW, &ciphertext).await;
        assert_eq!(*plaintext.unwrap(), b"123");
        let elsewhere = setup.client.decrypt(COLUMN, &[8.into()], &ciphertext).await;
        assert_eq!(elsewhere, Err(ClientError::Aead(AeadError::NotAuthentic)));
    }
}

#[tokio::test]
async fn a_value_is_bound_to_its_row() {
    let setup = Setup::new().await;
    let client = &setup.client;
    let ciphertext = client.encrypt(COLUMN, &ROW, b"123").await.unwrap();
    let other = client.decrypt(COLUMN, &[8.into()], &ciphertext).await;
    assert_eq!(other, Err(ClientError::Aead(AeadError::NotAuthentic)));
    for wrong in [&[][..], &[7.into(), 8.into()]] {
        let error = client.encrypt(COLUMN, wrong, b"123").await.unwrap_err();
        assert!(matches!(error, ClientError::Bind(_)), "{error}");
        let refused = client.decrypt(COLUMN, wrong, &ciphertext).await;
        assert!(matches!(refused, Err(ClientError::Bind(_))));
    }
    let plaintext = client.decrypt(COLUMN, &ROW, b"plaintext").await;
    assert_eq!(plaintext, Err(ClientError::NotCiphertext));
}

#[tokio::test]
async fn the_lease_is_renewed_each_second_of_use() {
    let setup = Setup::new().await;
    for expected in [1, 1, 2, 3] {
        encrypts_with(&setup).await.unwrap();
        assert_eq!(setup.leases.lease_requests.load(SeqCst), expected);
        setup.pass(SECOND / 2 * expected as u32);
    }
}

#[tokio::test]
async fn out_of_reach_encryption_goes_on_until_the_lease_ends() {
    let setup = Setup::new().await;
    let ciphertext = setup.client.encrypt(COLUMN, &ROW, b"123").await.unwrap();
    setup.cut_off(true);
    setup.pass(ENCRYPT_LEASE - Duration::from_millis(1));
    encrypts_with(&setup).await.unwrap();
    setup.pass(Duration::from_millis(1));
    for _ in 0..2 {
        let error = encrypts_with(&setup).await.unwrap_err();
        let keyring = keyring();
        assert_eq!(error, ClientError::LeaseEnded { keyring });
        assert!(error.is_retryable());
    }
    let plaintext = setup.client.decrypt(COLUMN, &ROW, &ciphertext).await;
    assert_eq!(*plaintext.unwrap(), b"123");
    setup.cut_off(false);
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(1)));
}

#[tokio::test]
async fn a_refusal_ends_the_lease_that_still_lasted() {
    let setup = Setup::new().await;
    encrypts_with(&setup).await.unwrap();
    *locked(&setup.leases.primary) = None;
    setup.pass(SECOND);
    let keyring = keyring();
    let no_primary = ClientError::Lease(LeaseError::NoPrimary { keyring });
    assert_eq!(encrypts_with(&setup).await, Err(no_primary));
    setup.cut_off(true);
    let error = encrypts_with(&setup).await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Lease(LeaseError::OutOfReach { .. })
    ));
}

#[tokio::test]
async fn a_change_switches_keys_at_once() {
    let setup = Setup::new().await;
    encrypts_with(&setup).await.unwrap();
    setup.add_key(2).await;
    setup.make_primary(2);
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(1)), "unheard of");
    setup.client.keyring_changed(&keyring());
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(2)));

    setup.client.keyring_changed(&keyring());
    setup.cut_off(true);
    assert!(encrypts_with(&setup).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn an_answer_that_a_change_overtook_is_not_used() {
    let setup = Setup::new().await;
    setup.add_key(2).await;
    let (client, leases) = (setup.client.clone(), setup.leases.clone());
    *locked(&setup.leases.on_the_way) = Some(Box::new(move || {
        *locked(&leases.primary) = Some(KeyId::new(2));
        client.keyring_changed(&keyring());
    }));
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(2)));
    assert_eq!(setup.leases.lease_requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_lease_for_a_key_not_in_the_set_refreshes_the_set() {
    let setup = Setup::new().await;
    encrypts_with(&setup).await.unwrap();
    setup.add_key(2).await;
    setup.make_primary(2);
    setup.pass(SECOND);
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(2)));
    assert_eq!(setup.leases.keyset_requests.load(SeqCst), 2);
}

#[tokio::test]
async fn an_answer_later_than_its_lease_grants_nothing() {
    let setup = std::sync::Arc::new(Setup::new().await);
    let late = setup.clone();
    *locked(&setup.leases.on_the_way) = Some(Box::new(move || late.pass(ENCRYPT_LEASE)));
    let keyring = keyring();
    let ended = ClientError::LeaseEnded { keyring };
    assert_eq!(encrypts_with(&setup).await, Err(ended));
}

#[tokio::test]
async fn a_change_while_usage_is_drawn_is_noticed() {
    let setup = Setup::new().await;
    setup.add_key(2).await;
    let (client, leases) = (setup.client.clone(), setup.leases.clone());
    *locked(&setup.leases.while_drawing) = Some(Box::new(move || {
        *locked(&leases.primary) = Some(KeyId::new(2));
        client.keyring_changed(&keyring());
    }));
    assert_eq!(encrypts_with(&setup).await, Ok(KeyId::new(2)));
}

#[tokio::test]
async fn a_key_that_is_compromised_encrypts_no_more_and_its_successor_does() {
    let setup = Setup::new().await;
    encrypts_with(&setup).await.unwrap();
    setup.add_key(2).await;
    locked(&setup.leases.compromised).push(KeyId::new(1));
    setup.make_primary(2);
    // More than is drawn ahead: the next block is refused, and asks for the lease anew.
    let key = setup.client.encryption_key(&keyring(), 1 << 20).await;
    assert_eq!(key.unwrap().id(), KeyId::new(2));
}

/// A lease that still lasts does not help where the store forgot a report.
#[tokio::test]
async fn a_deployment_that_is_suspended_encrypts_nothing_at_once_and_goes_on_after() {
    let setup = Setup::new().await;
    encrypts_with(&setup).await.unwrap();
    setup.leases.suspended.store(true, SeqCst);
    setup.pass(SECOND);
    let refused = encrypts_with(&setup).await.unwrap_err();
    assert!(refused.is_retryable());
    let suspended = matches!(refused, ClientError::Lease(LeaseError::Suspended { .. }));
    assert!(suspended, "{refused}");
    setup.leases.suspended.store(false, SeqCst);
    encrypts_with(&setup).await.unwrap();
}
