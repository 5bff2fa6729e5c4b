//! What to read: a range of a table, the columns to move and those that bind them.

use rekey_domain::{KeyId, Range, TextEncoding};

/// A protected column of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadColumn {
    /// The column in the database.
    pub name: String,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// The key ids at or above the target; values under them are left where they are.
    pub settled: Vec<KeyId>,
}

/// One range of a table, and what to read of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadQuery {
    /// The table in the database: `patients` or `main.patients`.
    pub relation: String,
    /// The range.
    pub range: Range,
    /// The columns to move. A row is read if one of them is neither NULL nor settled.
    pub columns: Vec<ReadColumn>,
    /// The columns that bind them, each once.
    pub bind_columns: Vec<String>,
}
