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
    /// Its database fails to read it: nobody knows.
    Unreadable,
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
