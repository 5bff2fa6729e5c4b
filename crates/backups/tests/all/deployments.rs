//! The deployment's bundle: the same again, by either key, and nothing altered passes.

use rekey_backups::{BackupKey, BundleError, DeploymentBundle, MAX_DEPLOYMENT_LEN, RecoveryKey};
use rekey_domain::KeyId;
use uuid::Uuid;

use crate::sample::{by, material};

const CONTENTS: &[u8] = br#"{"keyrings":[{"name":"tenant-hiv"}]}"#;

fn deployment() -> Uuid {
    "0192f0c1-0000-7000-8000-000000000001".parse().unwrap()
}

pub(crate) fn sealed(recovery: Option<&RecoveryKey>) -> DeploymentBundle {
    let (key, to) = (material(0xbb), recovery.map(RecoveryKey::public_key));
    DeploymentBundle::seal(deployment(), CONTENTS, by(&key), to.as_ref()).unwrap()
}

fn read(bundle: &DeploymentBundle) -> DeploymentBundle {
    DeploymentBundle::read(&bundle.name(), bundle.as_bytes()).unwrap()
}

#[test]
fn it_opens_with_either_key_and_comes_out_the_same() {
    let recovery = RecoveryKey::generate();
    let bundle = sealed(Some(&recovery));
    assert_eq!(bundle, sealed(Some(&recovery)));
    let bundle = read(&bundle);
    let key = material(0xbb);
    assert_eq!(bundle.open(by(&key)).unwrap().as_slice(), CONTENTS);
    assert_eq!(bundle.recover(&recovery).unwrap().as_slice(), CONTENTS);
    let drilled = bundle.reseal_and_compare(by(&key), Some(&recovery.public_key()));
    assert_eq!(drilled.unwrap().as_slice(), CONTENTS);
    let text = String::from_utf8_lossy(bundle.as_bytes()).into_owned();
    assert!(!text.contains("hiv"), "{text}");
}

#[test]
fn without_a_recovery_key_it_has_one_seal() {
    let bundle = read(&sealed(None));
    let refused = bundle.recover(&RecoveryKey::generate()).err();
    assert_eq!(refused, Some(BundleError::NoRecoverySeal));
    let key = material(0xbb);
    assert!(bundle.reseal_and_compare(by(&key), None).is_ok());
}

#[test]
fn whatever_is_known_makes_another_bundle() {
    let key = material(0xbb);
    let of = |deployment, contents, key| {
        DeploymentBundle::seal(deployment, contents, key, None)
            .unwrap()
            .name()
    };
    let other = BackupKey {
        id: KeyId::new(7),
        material: &key,
    };
    let mut names = vec![
        of(deployment(), CONTENTS, by(&key)),
        of(Uuid::nil(), CONTENTS, by(&key)),
        of(deployment(), b"{}", by(&key)),
        of(deployment(), CONTENTS, other),
    ];
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
}

#[test]
fn no_byte_can_be_changed_and_the_name_with_it() {
    let (recovery, key) = (RecoveryKey::generate(), material(0xbb));
    let bundle = sealed(Some(&recovery));
    let whole = bundle.as_bytes().to_vec();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let refused = DeploymentBundle::read(&bundle.name(), &changed);
        assert!(refused.is_err(), "byte {at}");
        let fitting = DeploymentBundle::name_of(deployment(), &changed);
        let drilled = DeploymentBundle::read(&fitting, &changed)
            .and_then(|one| one.reseal_and_compare(by(&key), Some(&recovery.public_key())));
        assert!(drilled.is_err(), "byte {at}");
    }
}

#[test]
fn what_is_too_long_or_of_another_key_is_refused() {
    let key = material(0xbb);
    let long = vec![b'1'; MAX_DEPLOYMENT_LEN];
    let refused = DeploymentBundle::seal(deployment(), &long, by(&key), None).err();
    assert!(matches!(refused, Some(BundleError::TooLong { .. })));
    let other = BackupKey {
        id: KeyId::new(7),
        material: &key,
    };
    let refused = read(&sealed(None)).open(other).err();
    assert!(matches!(refused, Some(BundleError::OtherBackupKey { .. })));
    let stranger = material(0x01);
    let refused = read(&sealed(None)).open(by(&stranger)).err();
    assert!(matches!(refused, Some(BundleError::NotAuthentic { .. })));
}
