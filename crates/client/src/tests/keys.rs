//! Which keys a client uses, and how long it keeps them.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use rekey_domain::KeyId;
use rekey_kms::Kms;

use super::fake::{COLUMN, DECRYPTS_FOR, MAX_AGE, Setup, keyring};
use crate::{ClientError, KeyCache, locked::locked};

async fn key(setup: &Setup, id: u32) -> Result<KeyId, ClientError> {
    let (client, keyring) = (&setup.client, keyring());
    let key = client.decryption_key(&keyring, KeyId::new(id)).await?;
    Ok(key.id())
}

fn cache(setup: &Setup, capacity: usize) -> KeyCache {
    let kms: Arc<dyn Kms> = setup.kms.clone();
    KeyCache::with_limits(kms, capacity, Duration::from_secs(60))
}

#[tokio::test]
async fn an_unknown_key_refreshes_the_set_once() {
    let setup = Setup::new().await;
    key(&setup, 1).await.unwrap();
    let unknown = ClientError::UnknownKey {
        key: KeyId::new(2),
        keyring: keyring(),
    };
    assert_eq!(key(&setup, 2).await, Err(unknown));
    assert_eq!(setup.leases.keyset_requests.load(SeqCst), 2);
    setup.add_key(2).await;
    assert_eq!(key(&setup, 2).await, Ok(KeyId::new(2)));
    assert_eq!(key(&setup, 1).await, Ok(KeyId::new(1)));
    assert_eq!(setup.leases.keyset_requests.load(SeqCst), 3);
}

#[tokio::test]
async fn a_set_that_is_too_old_is_asked_for_again_and_decrypts_where_none_can_be_had() {
    let setup = Setup::new().await;
    key(&setup, 1).await.unwrap();
    setup.cut_off(true);
    setup.pass(MAX_AGE - Duration::from_millis(1));
    key(&setup, 1).await.unwrap();
    assert_eq!(setup.leases.keyset_requests.load(SeqCst), 1);
    setup.pass(Duration::from_millis(1));
    for _ in 0..10 {
        key(&setup, 1).await.unwrap();
    }
    assert_eq!(
        setup.leases.keyset_requests.load(SeqCst),
        2,
        "once a second"
    );
    assert!(
        key(&setup, 2).await.unwrap_err().is_retryable(),
        "unknown to the last one"
    );
    setup.pass(DECRYPTS_FOR - MAX_AGE - Duration::from_millis(1));
    key(&setup, 1).await.unwrap();
    setup.pass(Duration::from_millis(1));
    assert!(key(&setup, 1).await.unwrap_err().is_retryable());
    setup.cut_off(false);
    key(&setup, 1).await.unwrap();
}

/// A change that cannot be followed turns nobody's data off, with the KMS away too; and nothing is encrypted.
#[tokio::test]
async fn a_keyring_that_changed_while_its_keeper_is_away_goes_on_decrypting() {
    let setup = Setup::new().await;
    let client = &setup.client;
    let sealed = client.encrypt(COLUMN, &[7.into()], b"123").await.unwrap();
    setup.cut_off(true);
    client.keyring_changed(&keyring());
    let state = rekey_kms::MasterKeyState::Disabled;
    rekey_kms::LocalKms::set_state(&setup.master_key(), state)
        .await
        .unwrap();
    let mut passed = Duration::ZERO;
    while passed < DECRYPTS_FOR - Duration::from_secs(60) {
        let opened = client.decrypt(COLUMN, &[7.into()], &sealed).await;
        assert_eq!(*opened.unwrap(), b"123");
        let refused = client
            .encrypt(COLUMN, &[7.into()], b"123")
            .await
            .unwrap_err();
        assert!(refused.is_retryable(), "{refused}");
        let _ = client.flush().await;
        setup.pass(Duration::from_secs(60));
        passed += Duration::from_secs(60);
    }
    setup.pass(Duration::from_secs(60));
    assert!(client.decrypt(COLUMN, &[7.into()], &sealed).await.is_err());
}

#[tokio::test]
async fn only_a_new_set_takes_a_key_away() {
    let setup = Setup::new().await;
    key(&setup, 1).await.unwrap();
    locked(&setup.leases.keys).clear();
    setup.cut_off(true);
    setup.client.any_keyring_changed();
    key(&setup, 1).await.unwrap();
    setup.cut_off(false);
    setup.pass(Duration::from_secs(1));
    let error = key(&setup, 1).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownKey { .. }));
}

#[tokio::test]
async fn a_key_that_is_gone_from_the_set_is_not_used() {
    let setup = Setup::new().await;
    setup.add_key(2).await;
    key(&setup, 1).await.unwrap();
    locked(&setup.leases.keys).remove(0);
    setup.client.keyring_changed(&keyring());
    let error = key(&setup, 1).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownKey { .. }));
    key(&setup, 2).await.unwrap();
}

#[tokio::test]
async fn a_swapped_key_is_refused() {
    let setup = Setup::new().await;
    let [mut wrong_check, mut swapped] = [setup.make_key(2).await, setup.make_key(2).await];
    let other = setup.make_key(3).await;
    wrong_check.check_value = other.check_value;
    swapped.wrapped = other.wrapped;
    swapped.context = other.context;
    swapped.check_value = other.check_value;
    let cache = cache(&setup, 10);
    for wrong in [wrong_check, swapped] {
        let refused = cache.key(&wrong).await.err();
        let key = KeyId::new(2);
        assert_eq!(refused, Some(ClientError::WrongKeyMaterial { key }));
    }
}

#[tokio::test]
async fn a_cached_key_is_not_given_for_another_check_value() {
    let setup = Setup::new().await;
    let [good, mut bad] = [setup.make_key(2).await, setup.make_key(3).await];
    bad.id = good.id;
    bad.context = good.context;
    let cache = cache(&setup, 10);
    cache.key(&good).await.unwrap();
    cache.key(&bad).await.unwrap_err();
    cache.key(&good).await.unwrap();
}

#[tokio::test]
async fn a_cache_keeps_a_bounded_number_of_keys_and_forgets_them_all() {
    let setup = Setup::new().await;
    let cache = cache(&setup, 2);
    let mut given = Vec::new();
    for id in 1..=3 {
        let key = setup.make_key(id).await;
        let first = Arc::downgrade(&cache.key(&key).await.unwrap());
        let second = cache.key(&key).await.unwrap();
        assert!(
            first
                .upgrade()
                .is_some_and(|first| Arc::ptr_eq(&first, &second))
        );
        given.push(first);
    }
    let kept =
        |keys: &[std::sync::Weak<_>]| keys.iter().map(|key| key.strong_count()).sum::<usize>();
    assert_eq!((kept(&given), given[0].strong_count()), (2, 0));
    cache.clear();
    assert_eq!(kept(&given), 0);
}

#[tokio::test]
async fn concurrent_readers_ask_and_unwrap_once() {
    let setup = Setup::new().await;
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let client = setup.client.clone();
            tokio::spawn(async move { client.decryption_key(&keyring(), KeyId::new(1)).await })
        })
        .collect();
    let mut keys = Vec::new();
    for reader in readers {
        keys.push(reader.await.unwrap().unwrap());
    }
    assert!(keys.iter().all(|key| Arc::ptr_eq(key, &keys[0])));
    assert_eq!(setup.leases.keyset_requests.load(SeqCst), 1);
}
