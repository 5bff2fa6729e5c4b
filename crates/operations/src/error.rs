//! What an operation can answer instead of doing what was asked.

use std::time::Duration;

use rekey_broker::BrokerError;
use rekey_client::{ClientError, LeaseError};
use rekey_destinations::DestinationError;
use rekey_domain::{KeyId, KeyState, KeyringName};
use rekey_envelope::{NotASigningKey, SignsOnly};
use rekey_kms::KmsError;
use rekey_sources::SourceError;
use rekey_store::StoreError;

use crate::certificates::verify::CertificateError;

/// What waits for a person looks again after this.
const MENDED_WITHIN: Duration = Duration::from_secs(60);

/// What is away is looked for again after this.
const OUTAGE: Duration = Duration::from_secs(5);

/// Why an operation was not done; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The KMS.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Encrypting or decrypting.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key that signs was to encrypt.
    #[error(transparent)]
    SignsOnly(#[from] SignsOnly),
    /// A key that should sign cannot.
    #[error(transparent)]
    NotASigningKey(#[from] NotASigningKey),
    /// A certificate is not to be believed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A destination of backups.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The principal may not do this.
    #[error("{principal} may not {action}")]
    NotAllowed {
        /// Who asked.
        principal: String,
        /// For what.
        action: &'static str,
    },
    /// A safety rule forbids it.
    #[error("refused: {0}")]
    Refused(String),
    /// It waits for other work of ours. Retrying helps.
    #[error("waits: {0}")]
    NotYet(String),
    /// Our updates of a table would have effects that nobody declared.
    #[error("table {table} {problem}; then rekey apply, or take away what was found")]
    Unsaid {
        /// The table.
        table: String,
        /// What was found, and what to say.
        problem: String,
    },
    /// A key that has to be there has no material in the store, though the KMS answers.
    #[error(
        "key {key} of keyring {keyring} is {state} and has no material in the store: its values are not lost with a rotation, but cannot be read; restore the key from a backup of the store, then try again"
    )]
    NoMaterial {
        /// The keyring.
        keyring: KeyringName,
        /// The key.
        key: KeyId,
        /// Its state.
        state: KeyState,
    },
    /// The configuration contradicts itself or the store.
    #[error("{place}: {problem}")]
    Configuration {
        /// Where in the configuration.
        place: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

impl OperationError {
    /// Whether doing the same again may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Kms(error) => error.is_retryable(),
            Self::Source(error) => error.is_retryable(),
            Self::Client(error) => error.is_retryable(),
            Self::Broker(error) => error.is_retryable(),
            Self::Destination(error) => error.is_retryable(),
            Self::NotYet(_) => true,
            Self::SignsOnly(_)
            | Self::Certificate(_)
            | Self::NotASigningKey(_)
            | Self::NotAllowed { .. }
            | Self::Refused(_)
            | Self::Unsaid { .. }
            | Self::NoMaterial { .. }
            | Self::Configuration { .. } => false,
        }
    }
}

impl OperationError {
    /// Whether something is away that will be back: however long that takes, it says nothing of the
    /// work, so it costs no attempt.
    pub fn is_outage(&self) -> bool {
        use SourceError::{DiskFull, OutOfReach, Standby};
        let kms = |error: &KmsError| {
            matches!(
                error,
                KmsError::OutOfReach { .. } | KmsError::Throttled { .. }
            )
        };
        match self {
            Self::Kms(error) | Self::Client(ClientError::Kms(error)) => kms(error),
            Self::Client(ClientError::Lease(
                LeaseError::OutOfReach { .. } | LeaseError::Suspended { .. },
            ))
            | Self::NotYet(_) => true,
            Self::Source(error) => {
                matches!(error, OutOfReach { .. } | DiskFull { .. } | Standby { .. })
            }
            _ => false,
        }
    }

    /// Whether every further attempt would fail alike until a person mends something: the KMS, a key, a right, a table
    /// at a source, an undeclared effect. Then work is put on hold rather than given up piece by piece.
    pub fn pauses(&self) -> bool {
        match self {
            Self::Kms(error) | Self::Client(ClientError::Kms(error)) => !error.is_retryable(),
            Self::Client(ClientError::WrongKeyMaterial { .. }) => true,
            Self::Source(error) => error.is_of_every_row(),
            Self::Unsaid { .. } => true,
            _ => false,
        }
    }
}

impl From<OperationError> for rekey_runtime::JobError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Store(error) => error.into(),
            error if error.is_outage() => {
                tracing::warn!(%error, "a message waits for what is away");
                Self::Snooze(OUTAGE)
            }
            error if error.pauses() => {
                tracing::error!(%error, "a message waits until a person has mended this");
                Self::Snooze(MENDED_WITHIN)
            }
            error => Self::from_retryable(error.is_retryable(), error),
        }
    }
}
