//! What every implementation of `Kms` must do, whatever provider stands behind it.

use rekey_domain::{KeyId, Purpose};
use rekey_envelope::KeyMaterial;
use rekey_kms::{EncryptionContext, GeneratedKey, Kms, KmsError, MasterKeyState, WrappedKey};
use uuid::Uuid;

/// All that holds of an enabled master key.
pub async fn conforms(kms: &dyn Kms) {
    describes_an_enabled_master_key(kms).await;
    unwraps_what_it_wrapped(kms).await;
    keys_differ(kms).await;
    wrong_context_is_refused(kms).await;
    altered_wrapped_key_is_refused(kms).await;
    cut_or_extended_wrapped_key_is_refused(kms).await;
    rewraps_the_same_key(kms).await;
    wraps_a_key_that_it_did_not_make(kms).await;
    rewraps_only_what_opens_and_only_under_its_own(kms).await;
}

/// What holds when the master key is replaced.
pub async fn goes_on_under_a_new_master_key(kms: &dyn Kms) {
    let before = kms.describe().await.unwrap().id;
    let old = kms.generate_data_key(&context()).await.unwrap();
    assert_eq!(old.master_key, before);
    let made = kms.new_master_key().await.unwrap();
    assert_eq!(kms.describe().await.unwrap(), made);
    assert_eq!(made.state, MasterKeyState::Enabled);
    assert_ne!(made.id, before);
    let new = kms.generate_data_key(&context()).await.unwrap();
    assert_eq!(new.master_key, made.id);
    let moved = kms
        .rewrap(&old.wrapped, &context(), &made.id)
        .await
        .unwrap();
    assert_eq!(moved.master_key, made.id);
    for (wrapped, master_key, key) in [
        (&old.wrapped, &before, &old),
        (&moved.wrapped, &made.id, &old),
        (&new.wrapped, &made.id, &new),
    ] {
        let by = kms.wrapped_by(wrapped, &context()).await;
        assert_eq!(by.as_ref(), Ok(master_key));
        opens_to(kms, wrapped, key).await;
    }
}

/// All that holds while the master key is in `state`, which is not enabled; `wrapped` was made before.
pub async fn refuses_while(kms: &dyn Kms, state: MasterKeyState, wrapped: &WrappedKey) {
    let info = kms.describe().await.unwrap();
    assert_eq!(info.state, state);
    let expected = match state {
        MasterKeyState::Enabled => panic!("an enabled master key refuses nothing"),
        MasterKeyState::Disabled => KmsError::Disabled {
            master_key: info.id,
        },
        MasterKeyState::PendingDeletion => KmsError::PendingDeletion {
            master_key: info.id,
        },
    };
    assert!(!expected.is_retryable());
    let generated = kms.generate_data_key(&context()).await.err();
    assert_eq!(generated.as_ref(), Some(&expected));
    assert_eq!(kms.decrypt(wrapped, &context()).await.err(), Some(expected));
}

/// The context the suite wraps keys in.
pub fn context() -> EncryptionContext {
    EncryptionContext {
        deployment: Uuid::from_u128(1),
        keyring: Uuid::from_u128(2),
        key_id: KeyId::new(3),
        purpose: Purpose::Phi,
    }
}

async fn describes_an_enabled_master_key(kms: &dyn Kms) {
    let info = kms.describe().await.unwrap();
    assert_eq!(info.state, MasterKeyState::Enabled);
    assert!(!info.id.is_empty() && !info.provider.is_empty());
}

/// A key is what it was when it comes back.
pub async fn unwraps_what_it_wrapped(kms: &dyn Kms) {
    let GeneratedKey {
        material, wrapped, ..
    } = kms.generate_data_key(&context()).await.unwrap();
    let stored = WrappedKey::from(wrapped.as_bytes().to_vec());
    let unwrapped = kms.decrypt(&stored, &context()).await.unwrap();
    assert_eq!(unwrapped.expose_key_bytes(), material.expose_key_bytes());
    let in_clear = wrapped
        .as_bytes()
        .windows(32)
        .any(|bytes| bytes == material.expose_key_bytes());
    assert!(!in_clear);
}

async fn keys_differ(kms: &dyn Kms) {
    let one = kms.generate_data_key(&context()).await.unwrap();
    let other = kms.generate_data_key(&context()).await.unwrap();
    assert_ne!(
        one.material.expose_key_bytes(),
        other.material.expose_key_bytes()
    );
    assert_ne!(one.wrapped, other.wrapped);
}

async fn wrong_context_is_refused(kms: &dyn Kms) {
    let wrapped = kms.generate_data_key(&context()).await.unwrap().wrapped;
    for wrong in [
        EncryptionContext {
            deployment: Uuid::from_u128(9),
            ..context()
        },
        EncryptionContext {
            keyring: Uuid::from_u128(9),
            ..context()
        },
        EncryptionContext {
            key_id: KeyId::new(9),
            ..context()
        },
        EncryptionContext {
            purpose: Purpose::Audit,
            ..context()
        },
        EncryptionContext {
            purpose: Purpose::Backup,
            ..context()
        },
        EncryptionContext {
            purpose: Purpose::Signing,
            ..context()
        },
        EncryptionContext {
            deployment: Uuid::from_u128(2),
            keyring: Uuid::from_u128(1),
            ..context()
        },
    ] {
        let key_id = wrong.key_id;
        let refused = kms.decrypt(&wrapped, &wrong).await.err();
        assert_eq!(
            refused,
            Some(KmsError::WrongContext { key_id }),
            "{wrong:?}"
        );
    }
}

async fn rewraps_the_same_key(kms: &dyn Kms) {
    let master_key = kms.describe().await.unwrap().id;
    let key = kms.generate_data_key(&context()).await.unwrap();
    let again = kms.rewrap(&key.wrapped, &context(), &master_key).await;
    let again = again.unwrap();
    assert_eq!(again.master_key, master_key);
    assert_ne!(again.wrapped, key.wrapped);
    for wrapped in [&key.wrapped, &again.wrapped] {
        opens_to(kms, wrapped, &key).await;
    }
}

async fn wraps_a_key_that_it_did_not_make(kms: &dyn Kms) {
    let material = KeyMaterial::generate();
    let wrapped = kms.wrap(&material, &context()).await.unwrap();
    assert_eq!(wrapped.master_key, kms.describe().await.unwrap().id);
    let opened = kms.decrypt(&wrapped.wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose_key_bytes(), material.expose_key_bytes());
    let wrong = EncryptionContext {
        key_id: KeyId::new(9),
        ..context()
    };
    let refused = kms.decrypt(&wrapped.wrapped, &wrong).await.err();
    let key_id = wrong.key_id;
    assert_eq!(refused, Some(KmsError::WrongContext { key_id }));
}

async fn rewraps_only_what_opens_and_only_under_its_own(kms: &dyn Kms) {
    let master_key = kms.describe().await.unwrap().id;
    let key = kms.generate_data_key(&context()).await.unwrap();
    let wrong = EncryptionContext {
        key_id: KeyId::new(9),
        ..context()
    };
    let key_id = wrong.key_id;
    for refused in [
        kms.rewrap(&key.wrapped, &wrong, &master_key).await.err(),
        kms.wrapped_by(&key.wrapped, &wrong).await.err(),
    ] {
        assert_eq!(refused, Some(KmsError::WrongContext { key_id }));
    }
    let nowhere = Uuid::from_u128(7).to_string();
    let refused = kms.rewrap(&key.wrapped, &context(), &nowhere).await;
    let unknown = matches!(refused, Err(KmsError::UnknownMasterKey { .. }));
    assert!(unknown, "{refused:?}");
}

async fn opens_to(kms: &dyn Kms, wrapped: &WrappedKey, key: &GeneratedKey) {
    let opened = kms.decrypt(wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose_key_bytes(), key.material.expose_key_bytes());
}

async fn altered_wrapped_key_is_refused(kms: &dyn Kms) {
    let wrapped: Vec<u8> = kms
        .generate_data_key(&context())
        .await
        .unwrap()
        .wrapped
        .into();
    for bit in 0..wrapped.len() * 8 {
        let mut altered = wrapped.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        is_refused_for_good(kms, altered).await;
    }
}

async fn cut_or_extended_wrapped_key_is_refused(kms: &dyn Kms) {
    let wrapped: Vec<u8> = kms
        .generate_data_key(&context())
        .await
        .unwrap()
        .wrapped
        .into();
    for len in 0..wrapped.len() {
        is_refused_for_good(kms, wrapped[..len].to_vec()).await;
    }
    is_refused_for_good(kms, [wrapped.as_slice(), &[0]].concat()).await;
}

async fn is_refused_for_good(kms: &dyn Kms, altered: Vec<u8>) {
    let refused = kms.decrypt(&altered.into(), &context()).await.err();
    // AWS does not say whether a master key that is not ours exists.
    let for_good = matches!(
        refused,
        Some(
            KmsError::WrongContext { .. }
                | KmsError::NotWrappedKey { .. }
                | KmsError::UnknownMasterKey { .. }
                | KmsError::AccessDenied { .. }
        )
    );
    assert!(for_good, "{refused:?}");
}
