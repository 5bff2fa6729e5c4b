//! The trait that every provider of master keys implements.

use std::fmt;

use async_trait::async_trait;
use rekey_envelope::KeyMaterial;

use crate::{EncryptionContext, KmsError, MasterKeyInfo};

/// A provider of a master key.
#[async_trait]
pub trait Kms: Send + Sync {
    /// Where its master keys are, for people. Asks nobody.
    fn place(&self) -> String;

    /// Makes a data key, wrapped under the master key and bound to `context`.
    ///
    /// # Errors
    /// [`KmsError`]; nothing is kept, so it may be asked again.
    async fn generate_data_key(
        &self,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError>;

    /// Unwraps a data key that was wrapped under one of the provider's master keys for `context`.
    ///
    /// # Errors
    /// [`KmsError::WrongContext`] if it was wrapped for another context, or altered.
    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError>;

    /// The master key that wraps new data keys; answers in every state.
    ///
    /// # Errors
    /// [`KmsError`] if the provider cannot say.
    async fn describe(&self) -> Result<MasterKeyInfo, KmsError>;

    /// The id of the master key that `wrapped` is wrapped under, for `context`.
    ///
    /// # Errors
    /// [`KmsError`], as for [`decrypt`](Self::decrypt).
    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError>;

    /// Wraps the same data key under `master_key`, one of the provider's, for the same `context`.
    /// The caller never sees the data key, and what it had goes on unwrapping.
    ///
    /// The target is named, as a provider may take a while to agree with itself on the current one.
    ///
    /// # Errors
    /// [`KmsError`]; nothing is kept, so it may be asked again.
    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError>;

    /// Wraps a data key that the caller has, under the master key and bound to `context`: one that came out of a backup.
    ///
    /// # Errors
    /// [`KmsError`]; nothing is kept, so it may be asked again.
    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError>;

    /// Makes a master key and has it wrap new data keys. The one before it stays, to unwrap what it
    /// wrapped.
    ///
    /// # Errors
    /// [`KmsError`]; after [`KmsError::OutOfReach`] ask [`describe`](Self::describe) whether it was done.
    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError>;
}

/// A data key as it is stored: under a master key, in its provider's format.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the length only: a wrapped key is no secret, but no log needs it.
impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for WrappedKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<WrappedKey> for Vec<u8> {
    fn from(wrapped: WrappedKey) -> Self {
        wrapped.0
    }
}

/// A new data key, to use and to store.
pub struct GeneratedKey {
    /// To use.
    pub material: KeyMaterial,
    /// To store.
    pub wrapped: WrappedKey,
    /// The id of the master key that wrapped it.
    pub master_key: String,
}

/// A data key that was wrapped again, to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrappedKey {
    /// To store.
    pub wrapped: WrappedKey,
    /// The id of the master key that wrapped it.
    pub master_key: String,
}
