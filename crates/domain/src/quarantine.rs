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
