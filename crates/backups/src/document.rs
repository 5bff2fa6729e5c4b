//! The document that a bundle is: what stands in clear, and the seals. One bundle has one text.

use rekey_domain::KeyId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BundleError, Fingerprint, associated_data::InClear, encoding::base64};

/// The most bytes that a bundle has.
pub const MAX_LEN: usize = 16 * 1024;
/// What `format` says. The version is in it.
const FORMAT: &str = "rekey.bundle/v1";

/// A bundle: what stands in clear, and the seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rekey.bundle/v1")]
pub(crate) struct Document {
    #[schemars(extend("const" = FORMAT))]
    format: String,
    /// The deployment of Rekey.
    pub deployment: Uuid,
    /// The key that is backed up.
    pub key_id: KeyId,
    /// How it is opened.
    pub seals: Seals,
}

/// The seals. A BACKUP key's own bundle has `master`, any other has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seals {
    pub backup: BackupSeal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Master")]
    pub master: Option<Master>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RecoverySeal")]
    pub recovery: Option<RecoverySeal>,
}

/// AES-256-GCM under a BACKUP key. In a BACKUP key's own bundle it holds the details only, under that key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupSeal {
    /// The BACKUP key.
    pub key_id: KeyId,
    #[serde(with = "base64")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub nonce: [u8; 12],
    /// With the tag at its end.
    #[serde(with = "base64")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub ciphertext: Vec<u8>,
}

/// A BACKUP key as the store has it: wrapped by the master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Master {
    /// Its keyring's id, which unwrapping takes.
    pub keyring: Uuid,
    /// In the format of the KMS.
    #[serde(with = "base64")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub wrapped: Vec<u8>,
}

/// HPKE to the RECOVERY key: KEM 0x647a, KDF 0x0001, AEAD 0x0002.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoverySeal {
    /// The RECOVERY key.
    pub fingerprint: Fingerprint,
    #[serde(with = "base64")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub encapsulation: [u8; 1120],
    /// With the tag at its end.
    #[serde(with = "base64")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub ciphertext: Vec<u8>,
}

impl Document {
    pub(crate) fn new(in_clear: &InClear, seals: Seals) -> Self {
        Self {
            format: FORMAT.to_owned(),
            deployment: in_clear.deployment,
            key_id: in_clear.key_id,
            seals,
        }
    }

    /// Reads a document, strictly: one text for one document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        check_length(bytes)?;
        check_format(bytes)?;
        let document: Self = serde_json::from_slice(bytes).map_err(form)?;
        if document.to_bytes() != bytes {
            return Err(BundleError::OtherText);
        }
        let own = document.seals.backup.key_id == document.key_id;
        if own != document.seals.master.is_some() {
            let what = "a key is wrapped by the master key exactly where it is sealed under itself";
            return Err(BundleError::Contradiction(what));
        }
        Ok(document)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and structs of them are JSON")
    }

    pub(crate) fn in_clear(&self) -> InClear {
        let seals = &self.seals;
        InClear {
            deployment: self.deployment,
            key_id: self.key_id,
            backup: seals.backup.key_id,
            master: seals.master.as_ref().map(|master| master.keyring),
            recovery: seals.recovery.as_ref().map(|seal| seal.fingerprint),
        }
    }
}

pub(crate) fn check_length(bytes: &[u8]) -> Result<(), BundleError> {
    let (limit, found) = (MAX_LEN, bytes.len());
    match found <= limit {
        true => Ok(()),
        false => Err(BundleError::TooLong { limit, found }),
    }
}

/// Looked at first, so that what is told of a later version is that.
fn check_format(bytes: &[u8]) -> Result<(), BundleError> {
    #[derive(Deserialize)]
    struct Format {
        format: String,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(form)?;
    if format == FORMAT {
        return Ok(());
    }
    Err(BundleError::Format {
        expected: FORMAT,
        found: format.chars().take(40).collect(),
    })
}

/// Where reading ended, and no word of what stood there.
pub(crate) fn form(error: serde_json::Error) -> BundleError {
    BundleError::Form {
        line: error.line(),
        column: error.column(),
    }
}
