//! Why a value could not be re-encrypted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The reason a row is in quarantine; the row itself is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineReason {
    /// Its key id is unknown, or its key is gone.
    MissingKey,
    /// Right key and place, but the bytes do not authenticate.
    Corrupt,
    /// It authenticates under another row's or column's place.
    WrongContext,
    /// Its key belongs to another keyring.
    OtherKeyring,
    /// Not ciphertext of our format.
    NotCiphertext,
}

impl QuarantineReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::MissingKey,
        Self::Corrupt,
        Self::WrongContext,
        Self::OtherKeyring,
        Self::NotCiphertext,
    ];

    /// What it says of the value, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::MissingKey => "its first bytes name a key that is not there or is gone",
            Self::Corrupt => "key and place are right, and its bytes are not what was encrypted",
            Self::WrongContext => "it was encrypted for another row or column and copied here",
            Self::OtherKeyring => "it was encrypted under a key of another keyring",
            Self::NotCiphertext => "it is not ciphertext of ours; perhaps it was never encrypted",
        }
    }

    /// What a person can do; then it can be tried again.
    pub fn what_helps(self) -> &'static str {
        match self {
            Self::MissingKey => "find out which deployment wrote it; restore the value or its key",
            Self::Corrupt => "restore the value from a backup of the source, or set it anew",
            Self::WrongContext => "put back what belongs there, from the row it was taken from",
            Self::OtherKeyring => "have the application write it anew, under the column's keyring",
            Self::NotCiphertext => "have the application write it anew, through encrypt",
        }
    }
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingKey => "missing-key",
            Self::Corrupt => "corrupt",
            Self::WrongContext => "wrong-context",
            Self::OtherKeyring => "other-keyring",
            Self::NotCiphertext => "not-ciphertext",
        })
    }
}

impl FromStr for QuarantineReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.to_string() == text)
            .ok_or_else(|| format!("quarantine reason {text:?} is not one of ours"))
    }
}
