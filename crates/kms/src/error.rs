//! Why a KMS refused or failed, and whether asking again can help.

use std::{io, path::PathBuf};

use rekey_domain::KeyId;

/// A KMS operation that failed. Names keys by id and never holds any of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsError {
    /// The provider did not answer.
    #[error("the {provider} KMS is out of reach: {reason}; it is asked again")]
    OutOfReach {
        /// Which provider.
        provider: &'static str,
        /// What happened.
        reason: String,
    },
    /// The provider answers too many requests already.
    #[error("the {provider} KMS asks to slow down; it is asked again later")]
    Throttled {
        /// Which provider.
        provider: &'static str,
    },
    /// The process may not use the master key.
    #[error("the use of master key {master_key} is denied; give this process the right to it")]
    AccessDenied {
        /// The master key.
        master_key: String,
    },
    /// The master key is disabled.
    #[error("master key {master_key} is disabled; enable it to go on")]
    Disabled {
        /// The master key.
        master_key: String,
    },
    /// The master key is about to be deleted, and every data key with it.
    #[error("master key {master_key} is pending deletion; cancel the deletion and enable it")]
    PendingDeletion {
        /// The master key.
        master_key: String,
    },
    /// The master key is in another state in which it serves nothing.
    #[error(
        "master key {master_key} cannot be used in its present state (being made, without material, or its key store out of reach); look at it in the {provider} KMS"
    )]
    NotUsable {
        /// Which provider.
        provider: &'static str,
        /// The master key.
        master_key: String,
    },
    /// The wrapped key is another key's, of another deployment, or altered.
    #[error(
        "the wrapped key given for key {key_id} does not open in its context: it was swapped or altered; restore it from its backup"
    )]
    WrongContext {
        /// The key that the context names.
        key_id: KeyId,
    },
    /// The stored bytes are no wrapped key of this provider.
    #[error(
        "not a wrapped key: {reason}; check which KMS wrapped it, or restore it from its backup"
    )]
    NotWrappedKey {
        /// What was expected and found.
        reason: String,
    },
    /// The provider does not have the master key that is asked for.
    #[error(
        "master key {master_key} is not known to the {provider} KMS; check its configuration, or restore the master key"
    )]
    UnknownMasterKey {
        /// Which provider.
        provider: &'static str,
        /// The master key.
        master_key: String,
    },
    /// The wrapped key opens, but under a master key that is not where ours are: whoever owns it
    /// knows the data key.
    #[error(
        "the wrapped key given for key {key_id} is under master key {found}; expected one of {expected}: it was swapped; restore it from its backup"
    )]
    ForeignMasterKey {
        /// The key that the context names.
        key_id: KeyId,
        /// The master key it is under.
        found: String,
        /// Where ours are.
        expected: String,
    },
    /// The provider does not know who asks.
    #[error(
        "the {provider} KMS takes no request of this process: {reason}; give it valid credentials"
    )]
    Credentials {
        /// Which provider.
        provider: &'static str,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The provider refuses the request as such.
    #[error("the {provider} KMS refused the request: {reason}")]
    Refused {
        /// Which provider.
        provider: &'static str,
        /// What it said, and what helps.
        reason: String,
    },
    /// What the configuration says of the master key does not allow it.
    #[error("master key {master_key}: {problem}")]
    Configuration {
        /// The master key as it is configured.
        master_key: String,
        /// What is wrong, and what is allowed.
        problem: &'static str,
    },
    /// The local KMS cannot use its master key file.
    #[error("master key file {path}: {problem}", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeyFileProblem,
    },
}

impl KmsError {
    /// Whether the same request may succeed later without a person doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfReach { .. } | Self::Throttled { .. } => true,
            Self::KeyFile { problem, .. } => problem.is_retryable(),
            Self::AccessDenied { .. }
            | Self::Disabled { .. }
            | Self::PendingDeletion { .. }
            | Self::NotUsable { .. }
            | Self::ForeignMasterKey { .. }
            | Self::Credentials { .. }
            | Self::Refused { .. }
            | Self::Configuration { .. }
            | Self::WrongContext { .. }
            | Self::NotWrappedKey { .. }
            | Self::UnknownMasterKey { .. } => false,
        }
    }
}

/// What is wrong with a master key file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileProblem {
    /// It is not there.
    #[error(
        "not found; restore it where it was, as no key can be unwrapped without it (rekey init makes one only for a new deployment)"
    )]
    Missing,
    /// The file of a passphrase is not there, whatever is with the master keys.
    #[error(
        "the passphrase's file is not found; put it back, or say kms.passphrase_file where it is: the master key file is another and was not looked at"
    )]
    NoPassphraseFile,
    /// The directory it belongs into is not there.
    #[error("its directory does not exist; make it first")]
    NoDirectory,
    /// A directory, a pipe or a device is in its place.
    #[error("expected a regular file, found something else")]
    NotAFile,
    /// Others than its owner have rights on it.
    #[error("expected permissions 0600, found {mode:04o}: others have rights on it; chmod 600 it")]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// It is far larger than master key files are.
    #[error("expected at most {limit} bytes, found more; restore it from a copy")]
    TooLarge {
        /// The largest size that is read.
        limit: u64,
    },
    /// A change would make it larger than what is read.
    #[error(
        "has no room for another master key: expected at most {limit} bytes; it was not changed"
    )]
    Full {
        /// The largest size that is read.
        limit: u64,
    },
    /// A newer version of Rekey wrote it.
    #[error("expected version {expected}, found {found}; use the version of Rekey that wrote it")]
    Version {
        /// The version this program reads.
        expected: u32,
        /// The version it has.
        found: u32,
    },
    /// It is truncated, or not a master key file. Never quotes it, as it holds keys.
    #[error("malformed: {reason}; restore it from a copy")]
    Malformed {
        /// What is wrong, and where.
        reason: String,
    },
    /// A passphrase seals its master keys.
    #[error("a passphrase seals its master keys and none was given; say kms.passphrase_file")]
    PassphraseNeeded,
    /// The passphrase is not the one that seals its master keys, or they were altered.
    #[error(
        "the passphrase does not open its master keys: it is another one, or the file was altered; check kms.passphrase_file"
    )]
    WrongPassphrase,
    /// A passphrase was given, and its master keys lie open.
    #[error(
        "no passphrase seals its master keys although one is configured; leave kms.passphrase_file out, run rekey master passphrase --new-file, and say it again"
    )]
    NotProtected,
    /// The passphrase could be guessed.
    #[error("expected a passphrase of at least {least} bytes; take several words at random")]
    PassphraseTooShort {
        /// The least number of bytes.
        least: usize,
    },
    /// The operating system failed to read or write it.
    #[error("cannot be read or written: {0}")]
    Io(io::ErrorKind),
}

impl KeyFileProblem {
    /// A full disk or a lack of file handles passes; a missing right does not.
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Io(kind) if *kind != io::ErrorKind::PermissionDenied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_asked_again() {
        let key_file = |problem| KmsError::KeyFile {
            path: "keys.json".into(),
            problem,
        };
        let master_key = || "m".to_owned();
        let reason = || "r".to_owned();
        let provider = "local";
        for (error, expected) in [
            (
                KmsError::OutOfReach {
                    provider,
                    reason: reason(),
                },
                true,
            ),
            (KmsError::Throttled { provider }, true),
            (
                KmsError::AccessDenied {
                    master_key: master_key(),
                },
                false,
            ),
            (
                KmsError::Disabled {
                    master_key: master_key(),
                },
                false,
            ),
            (
                KmsError::PendingDeletion {
                    master_key: master_key(),
                },
                false,
            ),
            (
                KmsError::WrongContext {
                    key_id: KeyId::new(1),
                },
                false,
            ),
            (KmsError::NotWrappedKey { reason: reason() }, false),
            (
                KmsError::UnknownMasterKey {
                    provider,
                    master_key: master_key(),
                },
                false,
            ),
            (key_file(KeyFileProblem::Missing), false),
            (
                key_file(KeyFileProblem::Io(io::ErrorKind::PermissionDenied)),
                false,
            ),
            (
                key_file(KeyFileProblem::Io(io::ErrorKind::StorageFull)),
                true,
            ),
        ] {
            assert_eq!(error.is_retryable(), expected, "{error}");
        }
    }
}
