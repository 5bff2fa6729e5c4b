//! What a client asks of whoever keeps the keys, and the answers.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Algorithm, ColumnSpec, KeyId, KeyState, KeyringName, UsageBlock};
use rekey_envelope::CheckValue;
use rekey_kms::{EncryptionContext, WrappedKey};

use crate::LeaseError;

/// What a client asks of whoever keeps the keys: over the store for our workers, later over HTTP.
///
/// Every method answers or fails in bounded time; what is out of reach is
/// [`LeaseError::OutOfReach`].
#[async_trait]
pub trait Leases: Send + Sync {
    /// A protected column by its name `source.table.column`.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`] if no such column is protected.
    async fn column(&self, name: &str) -> Result<ColumnSpec, LeaseError>;

    /// The keys of a keyring that a client may hold now: ACTIVE, INACTIVE, COMPROMISED ones that were primary, to
    /// decrypt with, and the standby while it is distributed.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`] if there is no such keyring.
    async fn keyset(&self, keyring: &KeyringName) -> Result<Keyset, LeaseError>;

    /// Renews the right to encrypt with the keyring's primary key.
    ///
    /// # Errors
    /// [`LeaseError::NoPrimary`] while nothing may encrypt.
    async fn encrypt_lease(&self, keyring: &KeyringName) -> Result<LeaseGrant, LeaseError>;

    /// A block of at most `wanted` encryptions under a key (SP 800-38D §8.3).
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] when the key has none left, [`LeaseError::Compromised`] for one that is.
    async fn usage_block(&self, key: KeyId, wanted: u64) -> Result<UsageBlock, LeaseError>;

    /// Reports what was encrypted and decrypted, aggregated, for the audit log.
    ///
    /// # Errors
    /// [`LeaseError`]; the same uses are then reported again.
    async fn report(&self, uses: &[Use]) -> Result<(), LeaseError>;
}

/// The keys of a keyring that a client may hold.
#[derive(Debug, Clone)]
pub struct Keyset {
    /// The keyring.
    pub keyring: KeyringName,
    /// How long the set may be used, counted from before it was asked for.
    pub max_age: Duration,
    /// How long it goes on decrypting where no other can be had, counted the same. At least `max_age`.
    pub decrypts_for: Duration,
    /// The keys.
    pub keys: Vec<KeysetKey>,
}

/// A key as a client gets it: wrapped, with all that is needed to unwrap and check it.
#[derive(Debug, Clone)]
pub struct KeysetKey {
    /// The id that its ciphertexts carry.
    pub id: KeyId,
    /// Its version in its keyring.
    pub version: u32,
    /// What it may do.
    pub state: KeyState,
    /// What it encrypts with.
    pub algorithm: Algorithm,
    /// The key under a master key.
    pub wrapped: WrappedKey,
    /// What tells a wrong or swapped key once it is unwrapped.
    pub check_value: CheckValue,
    /// What the wrapped key is bound to.
    pub context: EncryptionContext,
}

/// The right to encrypt with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The keyring's primary key.
    pub key: KeyId,
    /// How long it may be used, counted from before it was asked for.
    pub lasts: Duration,
}

/// What was done with a key since the last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The key.
    pub key: KeyId,
    /// Encryptions that it was handed out for.
    pub encrypted: u64,
    /// Values decrypted.
    pub decrypted: u64,
}
