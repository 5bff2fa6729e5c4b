//! Why a bundle is not made, not read or not opened.

use std::fmt;

use rekey_domain::KeyId;

use crate::Fingerprint;

/// One of the two seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// AES-256-GCM under a BACKUP key.
    Backup,
    /// HPKE to the RECOVERY key.
    Recovery,
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "BACKUP",
            Self::Recovery => "RECOVERY",
        })
    }
}

/// A bundle that cannot be made, read or opened. Retrying with the same bytes and the same keys never helps; another
/// copy of the bundle may. Nothing of what is sealed is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is longer than any bundle.
    #[error("the bundle is too long: expected at most {limit} bytes, found {found}")]
    TooLong {
        /// The most that a bundle has.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// It is no JSON of the form.
    #[error(
        "no bundle: expected what docs/format/bundle.md defines, found something else at line {line}, column {column}"
    )]
    Form {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// It is of another format, or of a later version.
    #[error(
        "a document of format {found:?}: expected {expected:?}; a later version of Rekey may read it"
    )]
    Format {
        /// What this program reads.
        expected: &'static str,
        /// What the document says, its beginning.
        found: String,
    },
    /// It says what a bundle says, in other bytes.
    #[error(
        "the bundle was written anew by another program: expected the one text that it has in format 1"
    )]
    OtherText,
    /// Its parts contradict each other.
    #[error("no bundle: {0}")]
    Contradiction(&'static str),
    /// The bytes are not those that have this name.
    #[error(
        "the bundle was altered, or is another: expected {expected}, found the bytes of {found}"
    )]
    OtherBytes {
        /// The name it was read by.
        expected: String,
        /// The name that its bytes have.
        found: String,
    },
    /// It is sealed under another BACKUP key. Look that key up by its id.
    #[error("the bundle is sealed under BACKUP key {found}, this is key {expected}")]
    OtherBackupKey {
        /// The key that was given.
        expected: KeyId,
        /// The key that the bundle names.
        found: KeyId,
    },
    /// It is sealed to another RECOVERY key.
    #[error("the bundle is sealed to RECOVERY key {found}, this is key {expected}")]
    OtherRecoveryKey {
        /// The key that was given.
        expected: Fingerprint,
        /// The key that the bundle names.
        found: Fingerprint,
    },
    /// It was made while there was no RECOVERY key.
    #[error("the bundle has no RECOVERY seal: it was made while there was no RECOVERY key")]
    NoRecoverySeal,
    /// A seal does not open.
    #[error(
        "the {seal} seal does not open: it was altered, or its key or what the bundle says in clear is another"
    )]
    NotAuthentic {
        /// Which.
        seal: Seal,
    },
    /// A seal opens and holds something else than a key.
    #[error(
        "the {seal} seal holds something else than a key with its details: it was not made by Rekey"
    )]
    Contents {
        /// Which.
        seal: Seal,
    },
    /// A seal holds key material and the check value of another.
    #[error(
        "the {seal} seal holds a key that its check value or its hash is not of: it was not made by Rekey"
    )]
    OtherMaterial {
        /// Which.
        seal: Seal,
    },
    /// Made again, the bundle is another.
    #[error(
        "made again from what it holds, the bundle is another: its {part} differs; it was altered, or not made by Rekey"
    )]
    Differs {
        /// The first part that differs.
        part: &'static str,
    },
    /// The library of the RECOVERY seal was changed.
    #[error(
        "the HPKE library did not ask for its 64 random bytes at once, which format 1 rests on; nothing was sealed"
    )]
    OtherRandomness,
    /// The RECOVERY seal could not be made.
    #[error("the HPKE library did not take the RECOVERY public key {0}; nothing was sealed")]
    NotSealed(Fingerprint),
}
