//! What can go wrong in the store, and whether retrying helps.

use sea_orm::DbErr;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer or refused for now. Retrying helps.
    #[error("the store is out of reach or busy: {0}")]
    OutOfReach(#[source] DbErr),
    /// No space is left for the store. Retrying helps once there is.
    #[error("the disk of the store is full; nothing was changed")]
    DiskFull,
    /// The lease that protected the work has passed to another process; nothing was written.
    #[error("the lease {name} is no longer ours; nothing was written")]
    Fenced {
        /// The lease's name.
        name: String,
    },
    /// Someone else changed the row first; nothing was written. Reading again helps.
    #[error("{what} changed meanwhile; nothing was written")]
    Stale {
        /// The row.
        what: String,
    },
    /// There is no such thing.
    #[error("there is no {what}{}", list_of(.known))]
    Unknown {
        /// What was asked for.
        what: String,
        /// What there is instead.
        known: Vec<String>,
    },
    /// The schema is not the one this program knows.
    #[error("the store's schema {found}; {remedy}")]
    Schema {
        /// What was found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A second worker process on a SQLite store.
    #[error("{path} is held by another worker process; SQLite serves one, use PostgreSQL for more")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// A rule of the domain forbids it. Retrying does not help.
    #[error("{0}")]
    Refused(String),
    /// The audit log could not be written, so nothing was done (rule 8).
    #[error("the audit entry could not be sealed, so nothing was done: {0}")]
    Audit(String),
    /// Anything else the database says.
    #[error("the store failed: {0}")]
    Database(#[source] DbErr),
}

fn list_of(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("; there is {}", names.join(", "))
    }
}

impl StoreError {
    /// Whether doing the same again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::OutOfReach(_) | Self::DiskFull | Self::Stale { .. }
        )
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if text.contains("database or disk is full") {
            return Self::DiskFull;
        }
        let transient = ["database is locked", "unable to open", "disk I/O error"];
        match &error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => Self::OutOfReach(error),
            _ if transient.iter().any(|phrase| text.contains(phrase)) => Self::OutOfReach(error),
            _ => Self::Database(error),
        }
    }
}
