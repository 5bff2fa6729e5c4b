//! A verification of the audit log ends with a verdict.

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditVerdict {
    /// Entries looked at.
    pub entries: u64,
    /// What is wrong, entry by entry; empty: the log is whole.
    pub problems: Vec<String>,
    /// What cannot be told any more.
    pub notes: Vec<String>,
}
