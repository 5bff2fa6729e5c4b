//! What is inside the seals: a key with its details. States are not: they are in checkpoints.

use chrono::{DateTime, Datelike, Utc};
use rekey_domain::{Algorithm, KeyId, KeyringName, Purpose};
use rekey_envelope::{CheckValue, KeyMaterial, decode_base64, encode_base64};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    BundleError, Seal,
    associated_data::InClear,
    encoding::{read_time, time_text},
};

/// What is sealed is filled up to this: its length would tell of names and states. The longest has some 600 bytes.
const BLOCK: usize = 768;
/// The last year whose times have one length, and read back.
const LAST_YEAR: i32 = 9999;

/// What is to be known of a key beside its material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDetails {
    /// The keyring's id.
    pub keyring: Uuid,
    /// The keyring's name, which may tell what is protected.
    pub keyring_name: KeyringName,
    /// The version: 1, 2, 3 …
    pub version: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// How it encrypts or signs.
    pub algorithm: Algorithm,
    /// When it was made. Of all times microseconds are kept.
    pub created_at: DateTime<Utc>,
    /// When it became the primary key, if it did.
    pub activated_at: Option<DateTime<Utc>>,
    /// Since when it is not the primary key any more.
    pub deactivated_at: Option<DateTime<Utc>>,
    /// When it should be replaced.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key to back up, or one that came out of a bundle.
pub struct BackedUpKey {
    /// The deployment of Rekey.
    pub deployment: Uuid,
    /// The key.
    pub key_id: KeyId,
    /// What is known of it.
    pub details: KeyDetails,
    /// Its 256 bits.
    pub material: KeyMaterial,
}

/// The JSON that is sealed. Texts are borrowed, so that no copy of the material stays behind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plaintext<'a> {
    keyring: Uuid,
    keyring_name: KeyringName,
    version: u32,
    purpose: Purpose,
    algorithm: Algorithm,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    activated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deactivated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    check_value: String,
    sha256: String,
    /// Absent where the master key has it wrapped.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    material: Option<&'a str>,
}

impl KeyDetails {
    /// Whether each time reads back as it is written.
    pub(crate) fn has_times_of_four_digits(&self) -> bool {
        let later = [self.activated_at, self.deactivated_at, self.expires_at];
        let mut all = later.into_iter().flatten().chain([self.created_at]);
        all.all(|time| (0..=LAST_YEAR).contains(&time.year()))
    }
}

impl BackedUpKey {
    /// What is sealed where the key itself comes along.
    pub(crate) fn to_plaintext(&self) -> Zeroizing<Vec<u8>> {
        let material = Zeroizing::new(encode_base64(self.material.expose_key_bytes()));
        self.write(Some(&material))
    }

    /// What is sealed where the master key has the key wrapped.
    pub(crate) fn to_plaintext_of_details(&self) -> Zeroizing<Vec<u8>> {
        self.write(None)
    }

    fn write(&self, material: Option<&str>) -> Zeroizing<Vec<u8>> {
        let details = &self.details;
        let plaintext = Plaintext {
            keyring: details.keyring,
            keyring_name: details.keyring_name.clone(),
            version: details.version,
            purpose: details.purpose,
            algorithm: details.algorithm,
            created_at: time_text(details.created_at),
            activated_at: details.activated_at.map(time_text),
            deactivated_at: details.deactivated_at.map(time_text),
            expires_at: details.expires_at.map(time_text),
            check_value: encode_base64(CheckValue::of(&self.material).as_bytes()),
            sha256: sha256(&self.material),
            material,
        };
        // Room from the start: growing would leave a copy of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BLOCK));
        serde_json::to_writer(&mut *bytes, &plaintext).expect("texts and numbers are JSON");
        let filled = bytes.len().next_multiple_of(BLOCK);
        bytes.resize(filled, b' ');
        bytes
    }

    /// Reads what a seal held. `wrapped` is the key where the master key had it, and the seal has its details only.
    pub(crate) fn read(
        plaintext: &[u8],
        seal: Seal,
        in_clear: &InClear,
        wrapped: Option<&KeyMaterial>,
    ) -> Result<Self, BundleError> {
        let plaintext: Plaintext<'_> =
            serde_json::from_slice(plaintext).map_err(|_| BundleError::Contents { seal })?;
        let key = plaintext.material(wrapped).zip(plaintext.details());
        let (material, details) = key.ok_or(BundleError::Contents { seal })?;
        if !plaintext.is_of(&material) {
            return Err(BundleError::OtherMaterial { seal });
        }
        let own = (details.purpose == Purpose::Backup).then_some(details.keyring);
        if own != in_clear.master {
            let what = "only a BACKUP key is wrapped by the master key, under its own keyring";
            return Err(BundleError::Contradiction(what));
        }
        Ok(Self {
            deployment: in_clear.deployment,
            key_id: in_clear.key_id,
            details,
            material,
        })
    }
}

impl Plaintext<'_> {
    /// The key, which is either in here or given.
    fn material(&self, wrapped: Option<&KeyMaterial>) -> Option<KeyMaterial> {
        match (self.material, wrapped) {
            (Some(text), None) => {
                let bytes = Zeroizing::new(decode_base64(text).ok()?);
                KeyMaterial::from_slice(&bytes).ok()
            }
            (None, Some(key)) => KeyMaterial::from_slice(key.expose_key_bytes()).ok(),
            _ => None,
        }
    }

    fn details(&self) -> Option<KeyDetails> {
        // An absent time is none, a time that cannot be read is a mistake.
        let time = |text: &Option<String>| match text {
            Some(text) => read_time(text).map(Some),
            None => Some(None),
        };
        Some(KeyDetails {
            keyring: self.keyring,
            keyring_name: self.keyring_name.clone(),
            version: self.version,
            purpose: self.purpose,
            algorithm: self.algorithm,
            created_at: read_time(&self.created_at)?,
            activated_at: time(&self.activated_at)?,
            deactivated_at: time(&self.deactivated_at)?,
            expires_at: time(&self.expires_at)?,
        })
    }

    fn is_of(&self, material: &KeyMaterial) -> bool {
        let check_value = decode_base64(&self.check_value).unwrap_or_default();
        let check_value = CheckValue::try_from(check_value.as_slice());
        check_value.is_ok_and(|value| value.matches(material)) && self.sha256 == sha256(material)
    }
}

/// The hash of the key itself, for who opens a bundle with tools of their own.
fn sha256(material: &KeyMaterial) -> String {
    hex::encode(Sha256::digest(material.expose_key_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal::Recovery;

    fn key() -> BackedUpKey {
        BackedUpKey {
            deployment: Uuid::nil(),
            key_id: KeyId::new(1),
            details: KeyDetails {
                keyring: Uuid::max(),
                keyring_name: "phi".parse().unwrap(),
                version: 1,
                purpose: Purpose::Phi,
                algorithm: Algorithm::Aes256Gcm,
                created_at: DateTime::UNIX_EPOCH,
                activated_at: Some(DateTime::UNIX_EPOCH),
                deactivated_at: None,
                expires_at: None,
            },
            material: KeyMaterial::from_slice(&[7; 32]).unwrap(),
        }
    }

    fn in_clear(master: Option<Uuid>) -> InClear {
        InClear {
            deployment: Uuid::nil(),
            key_id: KeyId::new(1),
            backup: KeyId::new(2),
            master,
            recovery: None,
        }
    }

    fn read(plaintext: &[u8]) -> Result<BackedUpKey, BundleError> {
        BackedUpKey::read(plaintext, SEAL, &in_clear(None), None)
    }

    /// Contents under a right seal that somebody else made.
    fn refused(from: &str, to: &str) -> BundleError {
        let text = String::from_utf8(key().to_plaintext().to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        let read = read(text.replace(from, to).as_bytes());
        read.err().unwrap_or_else(|| panic!("{to} was read"))
    }

    #[test]
    fn what_is_written_reads_back() {
        let read = read(&key().to_plaintext()).unwrap();
        assert_eq!(read.details, key().details);
        assert_eq!(read.material.expose_key_bytes(), &[7; 32]);
    }

    #[test]
    fn everything_that_is_sealed_has_one_length() {
        let texts = [key().to_plaintext(), key().to_plaintext_of_details()];
        assert_eq!(texts.map(|text| text.len()), [BLOCK; 2]);
    }

    #[test]
    fn a_key_that_its_hash_or_check_value_is_not_of_is_refused() {
        let other = BundleError::OtherMaterial { seal: SEAL };
        let material = encode_base64(&[7; 32]);
        assert_eq!(refused(&material, &encode_base64(&[8; 32])), other);
        assert_eq!(refused("\"sha256\":\"", "\"sha256\":\"0"), other);
        assert_eq!(
            refused("\"check_value\":\"", "\"check_value\":\"AAAA"),
            other
        );
    }

    #[test]
    fn contents_of_another_form_are_refused() {
        let contents = BundleError::Contents { seal: SEAL };
        let material = encode_base64(&[7; 32]);
        for (from, to) in [
            (material.as_str(), "AAAA"),
            ("\"material\"", "\"materials\""),
            ("\"version\":1", "\"version\":-1"),
            ("\"version\":1", "\"version\":1,\"version\":1"),
            ("\"version\":1", "\"version\":1,\"state\":\"ACTIVE\""),
            ("\"phi\"", "\"Phi\""),
            ("\"PHI\"", "\"INDEX\""),
            ("AES-256-GCM", "AES-128-GCM"),
            ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00Z"),
            (
                "1970-01-01T00:00:00.000000Z",
                "1970-01-01T01:00:00.000000+01:00",
            ),
            ("1970-01-01T00:00:00.000000Z", ""),
        ] {
            assert_eq!(refused(from, to), contents, "{to}");
        }
        assert_eq!(read(b"").err(), Some(contents.clone()));
        let details = read(&key().to_plaintext_of_details()).err();
        assert_eq!(details, Some(contents));
    }

    #[test]
    fn only_a_backup_key_is_wrapped_by_the_master_key() {
        let another = refused("\"PHI\"", "\"BACKUP\"");
        assert!(matches!(another, BundleError::Contradiction(_)));
        let (plaintext, key) = (key().to_plaintext_of_details(), key().material);
        for keyring in [Uuid::max(), Uuid::nil()] {
            let in_clear = in_clear(Some(keyring));
            let read = BackedUpKey::read(&plaintext, SEAL, &in_clear, Some(&key));
            assert!(matches!(read, Err(BundleError::Contradiction(_))));
        }
    }
}
