//! Why whoever keeps the keys did not give what was asked, and whether asking again can help.

use rekey_domain::{KeyId, KeyringName};

/// A request to [`Leases`](crate::Leases) that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The keyring has no primary key: nothing may encrypt with it.
    #[error(
        "keyring {keyring} has no primary key, so nothing may be encrypted with it; rotate it to get one"
    )]
    NoPrimary {
        /// The keyring.
        keyring: KeyringName,
    },
    /// What was asked for does not exist.
    #[error("{what} is not known; check its name and the configuration")]
    Unknown {
        /// What it was, such as `column clinic.patients.ssn`.
        what: String,
    },
    /// The key has made all encryptions it may.
    #[error("key {key} has no encryptions left (SP 800-38D §8.3); rotate its keyring")]
    Exhausted {
        /// The key.
        key: KeyId,
    },
    /// The key is compromised: nothing is encrypted under it any more.
    #[error("key {key} is compromised, so nothing is encrypted under it; another takes its place")]
    Compromised {
        /// The key.
        key: KeyId,
    },
    /// Nothing is encrypted until a person has looked.
    #[error("nothing is encrypted in this deployment for now: {reason}")]
    Suspended {
        /// Why, and what to do.
        reason: String,
    },
    /// Whoever keeps the keys did not answer.
    #[error("the keeper of the keys is out of reach: {reason}; it is asked again")]
    OutOfReach {
        /// What happened.
        reason: String,
    },
    /// The process may not have what it asked for.
    #[error("refused by the keeper of the keys: {reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

impl LeaseError {
    /// Whether the same request may succeed later without a person doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfReach { .. } | Self::Suspended { .. } => true,
            Self::NoPrimary { .. }
            | Self::Unknown { .. }
            | Self::Exhausted { .. }
            | Self::Compromised { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// What is said when each answer was overtaken by a change of the keyring.
    pub(crate) fn keeps_changing(keyring: &KeyringName) -> Self {
        Self::OutOfReach {
            reason: format!("keyring {keyring} changed during every request"),
        }
    }
}
