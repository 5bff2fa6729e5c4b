//! What is sealed opens, with either key, and comes out the same each time.

use rekey_backups::{BackedUpKey, BackupKey, Bundle, BundleError, RecoveryKey, Seal, Under};
use rekey_domain::{Algorithm, KeyId, Purpose};

use crate::sample::{BACKUP, PHI, WRAPPED, backup_key, bundles, by, material, phi_key, told};

#[test]
fn either_key_opens_a_bundle() {
    let (recovery, key) = (RecoveryKey::generate(), material(0xbb));
    let bundles = bundles(Some(&recovery.public_key()));
    for (bundle, sealed) in bundles.iter().zip([phi_key(), backup_key()]) {
        assert_eq!(told(&bundle.open(by(&key)).unwrap()), told(&sealed));
        assert_eq!(told(&bundle.recover(&recovery).unwrap()), told(&sealed));
    }
}

#[test]
fn a_bundle_is_read_by_its_name() {
    let recovery = RecoveryKey::generate().public_key();
    for bundle in bundles(Some(&recovery)).iter().chain(&bundles(None)) {
        let read = Bundle::read(&bundle.name(), bundle.as_bytes());
        assert_eq!(read.as_ref(), Ok(bundle));
        assert!(
            bundle.as_bytes().len() < 4096,
            "{}",
            bundle.as_bytes().len()
        );
    }
}

#[test]
fn a_bundle_says_in_clear_who_opens_it_and_no_names() {
    let recovery = RecoveryKey::generate().public_key();
    let [phi, own] = bundles(Some(&recovery));
    assert_eq!(
        (phi.key_id(), phi.backup_key(), phi.wrapped()),
        (PHI, BACKUP, None)
    );
    let keyring = backup_key().details.keyring;
    assert_eq!((own.key_id(), own.backup_key()), (BACKUP, BACKUP));
    assert_eq!(own.wrapped(), Some((keyring, WRAPPED)));
    for bundle in [phi, own] {
        assert_eq!(bundle.recovery_key(), Some(recovery.fingerprint()));
        assert_eq!(bundle.deployment(), phi_key().deployment);
        let text = String::from_utf8(bundle.as_bytes().to_vec()).unwrap();
        assert!(!text.contains("PHI") && !text.contains("2026"), "{text}");
        assert!(!text.contains("\"phi\"") && !text.contains("AES"), "{text}");
    }
}

#[test]
fn sealed_again_it_is_the_same_bytes() {
    let recovery = RecoveryKey::generate().public_key();
    assert_eq!(bundles(Some(&recovery)), bundles(Some(&recovery)));
    assert_eq!(bundles(None), bundles(None));
}

/// A nonce that two bundles shared would break both. So whatever differs makes another one.
#[test]
fn whatever_differs_is_sealed_with_another_nonce() {
    let [recovery, other] = [(); 2].map(|()| RecoveryKey::generate().public_key());
    let (key, another) = (material(0xbb), material(0xbc));
    let under = |id, material| Under::BackupKey(BackupKey { id, material });
    let (own, another_id) = (under(BACKUP, &key), under(KeyId::new(5), &key));
    let changed = [
        Bundle::seal(&phi_key(), own, Some(&recovery)),
        Bundle::seal(&phi_key(), own, Some(&other)),
        Bundle::seal(&phi_key(), own, None),
        Bundle::seal(&phi_key(), another_id, Some(&recovery)),
        sealed_after(|sealed| sealed.details.version = 4, own, &recovery),
        sealed_after(|sealed| sealed.details.activated_at = None, own, &recovery),
        sealed_after(
            |sealed| sealed.details.purpose = Purpose::Audit,
            own,
            &recovery,
        ),
        sealed_after(|sealed| sealed.key_id = KeyId::new(4), own, &recovery),
        sealed_after(
            |sealed| sealed.deployment = sealed.details.keyring,
            own,
            &recovery,
        ),
        sealed_after(|sealed| sealed.material = material(0x12), own, &recovery),
    ];
    let changed = changed.map(|bundle| field(&bundle.unwrap(), &["backup", "nonce"]));
    for (at, nonce) in changed.iter().enumerate() {
        assert!(!changed[..at].contains(nonce), "{at}");
    }
    // The nonce is derived from what is sealed: another BACKUP key of the same id is another cipher.
    let by_another = Bundle::seal(&phi_key(), under(BACKUP, &another), Some(&recovery)).unwrap();
    let (mine, theirs) = (&changed[0], field(&by_another, &["backup", "nonce"]));
    assert_eq!(*mine, theirs);
}

fn sealed_after(
    change: impl FnOnce(&mut BackedUpKey),
    under: Under<'_>,
    recovery: &rekey_backups::RecoveryPublicKey,
) -> Result<Bundle, BundleError> {
    let mut key = phi_key();
    change(&mut key);
    Bundle::seal(&key, under, Some(recovery))
}

fn field(bundle: &Bundle, path: &[&str]) -> serde_json::Value {
    let document: serde_json::Value = serde_json::from_slice(bundle.as_bytes()).unwrap();
    let seals = &document["seals"];
    path.iter().fold(seals, |value, name| &value[name]).clone()
}

#[test]
fn a_drill_proves_both_seals_without_the_private_recovery_key() {
    let recovery = RecoveryKey::generate().public_key();
    let key = material(0xbb);
    for bundle in bundles(Some(&recovery)) {
        let proved = bundle.reseal_and_compare(by(&key), Some(&recovery));
        assert_eq!(proved.unwrap().key_id, bundle.key_id());
    }
    for bundle in bundles(None) {
        assert!(bundle.reseal_and_compare(by(&key), None).is_ok());
    }
}

#[test]
fn a_drill_against_another_recovery_key_says_so() {
    let [recovery, other] = [(); 2].map(|()| RecoveryKey::generate().public_key());
    let (part, key) = ("RECOVERY key", material(0xbb));
    for (sealed_to, drilled) in [
        (Some(&recovery), Some(&other)),
        (Some(&recovery), None),
        (None, Some(&other)),
    ] {
        for bundle in bundles(sealed_to) {
            let refused = bundle.reseal_and_compare(by(&key), drilled).err();
            assert_eq!(refused, Some(BundleError::Differs { part }));
        }
    }
}

#[test]
fn another_key_opens_nothing() {
    let [recovery, other] = [(); 2].map(|()| RecoveryKey::generate());
    let another = material(0xbc);
    for bundle in bundles(Some(&recovery.public_key())) {
        let refused = BundleError::NotAuthentic { seal: Seal::Backup };
        assert_eq!(bundle.open(by(&another)).err(), Some(refused));
        let id = KeyId::new(7);
        let refused = BundleError::OtherBackupKey {
            expected: id,
            found: BACKUP,
        };
        let key = BackupKey {
            id,
            material: &another,
        };
        assert_eq!(bundle.open(key).err(), Some(refused));
        let refused = BundleError::OtherRecoveryKey {
            expected: other.public_key().fingerprint(),
            found: recovery.public_key().fingerprint(),
        };
        assert_eq!(bundle.recover(&other).err(), Some(refused));
    }
    for bundle in bundles(None) {
        assert_eq!(
            bundle.recover(&other).err(),
            Some(BundleError::NoRecoverySeal)
        );
    }
}

#[test]
fn only_a_backup_key_is_wrapped_by_the_master_key() {
    let (key, own) = (material(0xbb), Under::MasterKey { wrapped: WRAPPED });
    let under_id = |id| Under::BackupKey(BackupKey { id, material: &key });
    for (key, under) in [
        (phi_key(), own),
        (phi_key(), under_id(PHI)),
        (backup_key(), under_id(BACKUP)),
        (backup_key(), under_id(PHI)),
    ] {
        let refused = Bundle::seal(&key, under, None);
        assert!(
            matches!(refused, Err(BundleError::Contradiction(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_wrapped_key_that_no_bundle_has_room_for_is_refused() {
    let wrapped = &[0; 16 * 1024];
    let refused = Bundle::seal(&backup_key(), Under::MasterKey { wrapped }, None);
    assert!(matches!(
        refused,
        Err(BundleError::TooLong { limit: 16384, .. })
    ));
}

/// Names of keyrings tell, and so would how long they are.
#[test]
fn the_length_of_a_bundle_tells_nothing_of_what_is_inside() {
    let key = material(0xbb);
    let lengths = [
        |_: &mut BackedUpKey| (),
        |key: &mut BackedUpKey| key.details.activated_at = None,
        |key: &mut BackedUpKey| key.details.deactivated_at = key.details.expires_at,
        |key: &mut BackedUpKey| key.details.version = u32::MAX,
        |key: &mut BackedUpKey| key.details.keyring_name = "a".repeat(40).parse().unwrap(),
        |key: &mut BackedUpKey| key.details.algorithm = Algorithm::Ed25519,
    ]
    .map(|change| {
        let mut sealed = phi_key();
        change(&mut sealed);
        let bundle = Bundle::seal(&sealed, Under::BackupKey(by(&key)), None);
        bundle.unwrap().as_bytes().len()
    });
    assert_eq!(lengths, [lengths[0]; 6]);
}

#[test]
fn a_time_that_would_not_read_back_is_refused() {
    let mut key = phi_key();
    key.details.expires_at = Some(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    let by = material(0xbb);
    let refused = Bundle::seal(&key, Under::BackupKey(crate::sample::by(&by)), None);
    assert!(matches!(refused, Err(BundleError::Contradiction(_))));
}
