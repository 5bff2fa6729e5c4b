//! Keys and bundles to test with.

use rekey_backups::{
    BackedUpKey, BackupKey, Bundle, BundleName, KeyDetails, RecoveryPublicKey, Under,
};
use rekey_domain::{Algorithm, KeyId, Purpose};
use rekey_envelope::KeyMaterial;

pub(crate) const BACKUP: KeyId = KeyId::new(0xbac0_0001);
pub(crate) const PHI: KeyId = KeyId::new(0x0a1b_2c3d);
/// What a KMS would have made of the BACKUP key.
pub(crate) const WRAPPED: &[u8] = &[0x5a; 77];

pub(crate) fn material(byte: u8) -> KeyMaterial {
    KeyMaterial::from_slice(&[byte; 32]).unwrap()
}

pub(crate) fn phi_key() -> BackedUpKey {
    key(PHI, Purpose::Phi, 3, material(0x11))
}

pub(crate) fn backup_key() -> BackedUpKey {
    key(BACKUP, Purpose::Backup, 1, material(0xbb))
}

fn key(key_id: KeyId, purpose: Purpose, version: u32, material: KeyMaterial) -> BackedUpKey {
    BackedUpKey {
        deployment: "0192f0c1-0000-7000-8000-000000000001".parse().unwrap(),
        key_id,
        details: KeyDetails {
            keyring: "0192f0c1-0000-7000-8000-0000000000aa".parse().unwrap(),
            keyring_name: purpose.to_string().to_lowercase().parse().unwrap(),
            version,
            purpose,
            algorithm: Algorithm::Aes256Gcm,
            created_at: "2026-11-30T08:00:00.123456Z".parse().unwrap(),
            activated_at: Some("2026-11-30T09:00:00Z".parse().unwrap()),
            deactivated_at: None,
            expires_at: Some("2027-02-28T08:00:00Z".parse().unwrap()),
        },
        material,
    }
}

/// A bundle of each of the two kinds.
pub(crate) fn bundles(recovery: Option<&RecoveryPublicKey>) -> [Bundle; 2] {
    let key = material(0xbb);
    let phi = Under::BackupKey(by(&key));
    let own = Under::MasterKey { wrapped: WRAPPED };
    [(phi_key(), phi), (backup_key(), own)]
        .map(|(key, under)| Bundle::seal(&key, under, recovery).unwrap())
}

pub(crate) fn by(material: &KeyMaterial) -> BackupKey<'_> {
    BackupKey {
        id: BACKUP,
        material,
    }
}

/// These bytes as whoever may write to a destination would leave them there: under a name that fits.
pub(crate) fn renamed(like: &Bundle, bytes: &[u8]) -> Result<Bundle, rekey_backups::BundleError> {
    Bundle::read(&BundleName::of(like.key_id(), bytes), bytes)
}

/// What was opened, to compare.
pub(crate) fn told(key: &BackedUpKey) -> (String, KeyId, &KeyDetails, &[u8; 32]) {
    let material = key.material.expose_key_bytes();
    (
        key.deployment.to_string(),
        key.key_id,
        &key.details,
        material,
    )
}
