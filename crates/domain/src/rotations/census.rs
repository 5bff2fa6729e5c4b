//! A census: the count of rows by key id, column by column.

use serde::{Deserialize, Serialize};

use crate::{ColumnName, KeyId};

/// What the first bytes of a value say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Found {
    /// Ciphertext under this key id, ours or not.
    Key(KeyId),
    /// No ciphertext of our format.
    NotCiphertext,
    /// No byte, no character. No ciphertext is empty, so it is left as it is.
    Empty,
    /// The database cannot read it, so nobody knows what it is.
    Unreadable,
}

impl Found {
    /// Whether a rotation has nothing to do with it: it is under a key that is settled, or empty.
    pub fn is_settled(self, is_settled: impl Fn(KeyId) -> bool) -> bool {
        match self {
            Self::Key(key) => is_settled(key),
            Self::Empty => true,
            Self::NotCiphertext | Self::Unreadable => false,
        }
    }
}

/// How many values of a column were found under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusCount {
    /// The column.
    pub column: ColumnName,
    /// What the values are.
    pub found: Found,
    /// How many there are.
    pub rows: u64,
}
