//! The deployment's bundle: what the store knows beside keys, without which nothing decrypts after a table was renamed.

use rekey_domain::KeyId;
use rekey_envelope::Zeroizing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    BackupKey, BundleError, Fingerprint, RecoveryKey, RecoveryPublicKey, Seal,
    document::{BackupSeal, RecoverySeal, form},
    synthetic::Sealed,
};

/// The most bytes that a deployment's bundle has.
pub const MAX_DEPLOYMENT_LEN: usize = 6 * 1024 * 1024;
/// What `format` says. The version is in it.
const FORMAT: &str = "rekey.deployment/v1";
/// What is sealed is filled up to a multiple of this.
const BLOCK: usize = 4096;

/// What stands in clear, and the seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rekey.deployment/v1")]
pub(crate) struct DeploymentDocument {
    #[schemars(extend("const" = FORMAT))]
    format: String,
    /// The deployment of Rekey.
    deployment: Uuid,
    seals: DeploymentSeals,
}

/// The seals. Both hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentSeals {
    backup: BackupSeal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RecoverySeal")]
    recovery: Option<RecoverySeal>,
}

/// The deployment's bundle, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentBundle {
    document: DeploymentDocument,
    bytes: Vec<u8>,
}

impl DeploymentBundle {
    /// Seals what is known of a deployment, a JSON document. The same and the same keys to seal with give the same bytes.
    ///
    /// # Errors
    /// [`BundleError::TooLong`], and those of the library of the RECOVERY seal.
    pub fn seal(
        deployment: Uuid,
        contents: &[u8],
        backup: BackupKey<'_>,
        recovery: Option<&RecoveryPublicKey>,
    ) -> Result<Self, BundleError> {
        let mut plaintext = Zeroizing::new(contents.to_vec());
        let filled = plaintext.len().next_multiple_of(BLOCK);
        plaintext.resize(filled, b' ');
        let fingerprint = recovery.map(RecoveryPublicKey::fingerprint);
        let data = [Seal::Backup, Seal::Recovery]
            .map(|seal| lines(seal, deployment, backup.id, fingerprint));
        let sealed = |associated_data| Sealed {
            secret: backup.material,
            plaintext: &plaintext,
            associated_data,
        };
        let to_recovery = recovery.map(|to| to.seal(&sealed(&data[1])));
        let seals = DeploymentSeals {
            backup: backup.seal(&sealed(&data[0])),
            recovery: to_recovery.transpose()?,
        };
        let document = DeploymentDocument {
            format: FORMAT.to_owned(),
            deployment,
            seals,
        };
        let bytes = document.to_bytes();
        check_length(&bytes)?;
        Ok(Self { document, bytes })
    }

    /// Reads what is stored as `name`. No altered byte passes.
    ///
    /// # Errors
    /// [`BundleError`] unless it is the bundle of this name.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, BundleError> {
        check_length(bytes)?;
        let document: DeploymentDocument = serde_json::from_slice(bytes).map_err(form)?;
        if document.format != FORMAT {
            return Err(BundleError::Format {
                expected: FORMAT,
                found: document.format.chars().take(40).collect(),
            });
        }
        if document.to_bytes() != bytes {
            return Err(BundleError::OtherText);
        }
        let bytes = bytes.to_vec();
        let read = Self { document, bytes };
        let (expected, found) = (name.to_owned(), read.name());
        match found == expected {
            true => Ok(read),
            false => Err(BundleError::OtherBytes { expected, found }),
        }
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name to store them under: `deployments/<deployment>/<SHA-256 of the bytes>.json`.
    pub fn name(&self) -> String {
        Self::name_of(self.document.deployment, &self.bytes)
    }

    /// The name of the bundle of a deployment that has these bytes.
    pub fn name_of(deployment: Uuid, bytes: &[u8]) -> String {
        let sha256 = hex::encode(Sha256::digest(bytes));
        format!("deployments/{deployment}/{sha256}.json")
    }

    /// The deployment that it says it is of.
    pub fn deployment(&self) -> Uuid {
        self.document.deployment
    }

    /// The BACKUP key that opens it.
    pub fn backup_key(&self) -> KeyId {
        self.document.seals.backup.key_id
    }

    /// The RECOVERY key that opens it, if there was one.
    pub fn recovery_key(&self) -> Option<Fingerprint> {
        let seal = self.document.seals.recovery.as_ref();
        seal.map(|seal| seal.fingerprint)
    }

    /// What is known of the deployment, by its BACKUP seal.
    ///
    /// # Errors
    /// [`BundleError`]: another BACKUP key, or a bundle that was altered or is not of Rekey.
    pub fn open(&self, key: BackupKey<'_>) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let data = self.lines(Seal::Backup);
        let opened = key.open(&self.document.seals.backup, &data)?;
        Ok(trimmed(&opened))
    }

    /// The same by its RECOVERY seal. Who has the public key can have made it: a checkpoint says whether it is Rekey's.
    ///
    /// # Errors
    /// [`BundleError`]: no RECOVERY seal, another RECOVERY key, or a bundle that was altered or is not of Rekey.
    pub fn recover(&self, key: &RecoveryKey) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let seal = self.document.seals.recovery.as_ref();
        let seal = seal.ok_or(BundleError::NoRecoverySeal)?;
        let data = self.lines(Seal::Recovery);
        Ok(trimmed(&key.open(seal, &data)?))
    }

    /// Opens the BACKUP seal, makes the whole bundle again and compares it byte for byte.
    ///
    /// # Errors
    /// [`BundleError`]: as for [`open`](Self::open), or [`BundleError::Differs`].
    pub fn reseal_and_compare(
        &self,
        key: BackupKey<'_>,
        recovery: Option<&RecoveryPublicKey>,
    ) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let opened = self.open(key)?;
        let again = Self::seal(self.document.deployment, &opened, key, recovery)?;
        match again.bytes == self.bytes {
            true => Ok(opened),
            false => Err(BundleError::Differs { part: "text" }),
        }
    }

    fn lines(&self, seal: Seal) -> Vec<u8> {
        lines(
            seal,
            self.document.deployment,
            self.backup_key(),
            self.recovery_key(),
        )
    }
}

impl DeploymentDocument {
    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and structs of them are JSON")
    }
}

/// What a seal is bound to: lines of `name=value`.
fn lines(seal: Seal, deployment: Uuid, backup: KeyId, recovery: Option<Fingerprint>) -> Vec<u8> {
    let recovery = recovery.map_or_else(|| "none".to_owned(), |key| key.to_string());
    format!("rekey deployment v1\nseal={seal}\ndeployment={deployment}\nbackup={backup}\nrecovery={recovery}\n").into_bytes()
}

/// Without what it was filled up with. JSON does not end in spaces.
fn trimmed(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(plaintext.trim_ascii_end().to_vec())
}

fn check_length(bytes: &[u8]) -> Result<(), BundleError> {
    let (limit, found) = (MAX_DEPLOYMENT_LEN, bytes.len());
    match found <= limit {
        true => Ok(()),
        false => Err(BundleError::TooLong { limit, found }),
    }
}
