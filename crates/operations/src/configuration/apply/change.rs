//! `apply` tells each change of the store in words.

/// One thing that `apply` changes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// What: `keyring phi`, `column clinic.patients.ssn`.
    pub subject: String,
    /// How.
    pub change: String,
}
