//! Somebody reports a key, and hears what that led to.

use chrono::{DateTime, Utc};
use rekey_domain::{KeyName, KeyRef, KeyState};
use serde::Serialize;
use uuid::Uuid;

/// What somebody says of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// Which key.
    pub key: KeyRef,
    /// Why they think so; sealed in the audit log, and nowhere else.
    pub reason: String,
    /// Since when others know it; none: nobody can say.
    pub since: Option<DateTime<Utc>>,
}

/// What a report led to.
#[derive(Debug, Clone, Serialize)]
pub struct Reported {
    /// The incident: a new one, or that of an earlier report.
    pub incident: Uuid,
    /// Whether it was reported before.
    pub again: bool,
    /// The key.
    pub key: KeyName,
    /// Its state from now on.
    pub state: KeyState,
    /// The key that encrypts from now on, where it was replaced.
    pub replaced_by: Option<KeyName>,
    /// The rotation that reads every row for it, and moves what stands under it unless a note says that it is left.
    pub rotation: Option<Uuid>,
    /// What a person has to know or do.
    pub notes: Vec<String>,
}
