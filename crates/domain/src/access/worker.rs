//! The worker programs, and whoever else has rights at the systems of a deployment.

use serde::Serialize;

use crate::Principal;

/// A worker program, by the rights it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worker {
    /// Fires what is due.
    Scheduler,
    /// Switches keys and plans batches.
    Rotator,
    /// Moves rows.
    ReEncryptor,
    /// Tells people.
    IncidentNotifier,
    /// Backs keys up and proves that they come back.
    BackupVerifier,
}

impl Worker {
    /// Every worker.
    pub const ALL: [Self; 5] = [
        Self::Scheduler,
        Self::Rotator,
        Self::ReEncryptor,
        Self::IncidentNotifier,
        Self::BackupVerifier,
    ];

    /// Its name, as in `rekey-rotator`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Rotator => "rotator",
            Self::ReEncryptor => "re-encryptor",
            Self::IncidentNotifier => "incident-notifier",
            Self::BackupVerifier => "backup-verifier",
        }
    }

    /// Who it is, in logs and towards the keeper of the keys.
    pub fn principal(self) -> Principal {
        Principal::worker(self.name())
    }

    /// Whether it needs the KMS and the sources.
    pub fn uses_keys(self) -> bool {
        matches!(
            self,
            Self::Rotator | Self::ReEncryptor | Self::BackupVerifier
        )
    }
}

/// Whoever needs rights at the systems of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A person or a pipeline with the command line. Migrating is the store's owner's.
    Operator,
    /// A worker program.
    #[serde(untagged)]
    Worker(Worker),
}

impl Role {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::Worker(Worker::Scheduler),
        Self::Worker(Worker::Rotator),
        Self::Worker(Worker::ReEncryptor),
        Self::Worker(Worker::IncidentNotifier),
        Self::Worker(Worker::BackupVerifier),
        Self::Operator,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker(worker) => worker.name(),
            Self::Operator => "operator",
        }
    }

    /// Its role in databases: `rekey_re_encryptor`.
    pub fn role(self, prefix: &str) -> String {
        format!("{prefix}{}", self.name().replace('-', "_"))
    }
}

impl From<Worker> for Role {
    fn from(worker: Worker) -> Self {
        Self::Worker(worker)
    }
}
