//! Why a value was not encrypted or decrypted, and whether trying again can help.

use rekey_domain::{BindError, KeyId, KeyringName};
use rekey_envelope::{AeadError, SignsOnly};
use rekey_kms::KmsError;

use crate::LeaseError;

/// An operation of a [`Client`](crate::Client) that failed. Names keys and columns, never contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Whoever keeps the keys refused or failed.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The KMS refused or failed.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// What was unwrapped is not the key, or its context is another key's.
    #[error(
        "what was unwrapped for key {key} does not have its check value or context: it was swapped; restore it from its backup"
    )]
    WrongKeyMaterial {
        /// The key that was meant.
        key: KeyId,
    },
    /// The keyring has no such key that may be used, and was asked just now.
    #[error(
        "keyring {keyring} has no key {key} that may be used; check that the column belongs to it, and the state of the key"
    )]
    UnknownKey {
        /// The key.
        key: KeyId,
        /// The keyring.
        keyring: KeyringName,
    },
    /// The value does not have the form of a ciphertext.
    #[error("the value is not a ciphertext; perhaps it is plaintext that was never encrypted")]
    NotCiphertext,
    /// The bind values do not fit the column.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The value is not authentic, or could not be encrypted.
    #[error(transparent)]
    Aead(#[from] AeadError),
    /// The key signs and never encrypts.
    #[error(transparent)]
    SignsOnly(#[from] SignsOnly),
    /// The right to encrypt ended and could not be renewed.
    #[error(
        "the lease to encrypt with keyring {keyring} ended and could not be renewed; nothing is encrypted until it is"
    )]
    LeaseEnded {
        /// The keyring.
        keyring: KeyringName,
    },
}

impl ClientError {
    /// Whether the same call may succeed later without a person doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lease(error) => error.is_retryable(),
            Self::Kms(error) => error.is_retryable(),
            Self::Aead(error) => matches!(error, AeadError::NoRandomness),
            Self::LeaseEnded { .. } => true,
            Self::WrongKeyMaterial { .. }
            | Self::UnknownKey { .. }
            | Self::NotCiphertext
            | Self::SignsOnly(_)
            | Self::Bind(_) => false,
        }
    }
}
