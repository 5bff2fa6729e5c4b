//! Why a checkpoint or a states document is not read or not believed.

use rekey_domain::KeyId;
use rekey_envelope::JwsError;
use uuid::Uuid;

/// A checkpoint or a states document that cannot be read, or that nobody should trust. Retrying with the same bytes never
/// helps; the copy at another destination may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is longer than any.
    #[error("too long: expected at most {limit} bytes, found {found}")]
    TooLong {
        /// The most that it has.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// It is no JSON of the form.
    #[error(
        "expected what docs/format/checkpoint.md defines, found something else at line {line}, column {column}"
    )]
    Form {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// It is of another schema, or of a later version.
    #[error(
        "a document of schema {found:?}: expected {expected:?}; a later version of Rekey may read it"
    )]
    Schema {
        /// What this program reads.
        expected: &'static str,
        /// What the document says, its beginning.
        found: String,
    },
    /// It says the same in other bytes.
    #[error("written anew by another program: expected the one text that it has in version 1")]
    OtherText,
    /// It is no signed text of ours, or its signature is not that of the key.
    #[error("no checkpoint of ours: {0}")]
    Signature(#[from] JwsError),
    /// Another key signed it than the one given.
    #[error("the checkpoint says that key {found} signed it; expected key {expected}")]
    OtherKey {
        /// The key that was given.
        expected: KeyId,
        /// The key that it names.
        found: KeyId,
    },
    /// It is no name of a states document.
    #[error("{found:?}: expected states/DEPLOYMENT/SHA-256.json, in lower-case hex")]
    NotAName {
        /// What was given, its beginning.
        found: String,
    },
    /// The bytes are not those that have this name.
    #[error("altered, or another: expected {expected}, found the bytes of {found}")]
    OtherBytes {
        /// The name it was read by.
        expected: String,
        /// The name that its bytes have.
        found: String,
    },
    /// It was stored under the name of another.
    #[error("stored under another name: expected what belongs at {expected:?}, found {found:?}")]
    OtherName {
        /// The name it was read by, its beginning.
        expected: String,
        /// The name that its contents have.
        found: String,
    },
    /// Checkpoints are counted from 1.
    #[error("a checkpoint that counts itself as 0: expected 1 or more")]
    CounterZero,
    /// It follows one that cannot have been before it.
    #[error(
        "checkpoint {counter} says that {previous} is before it: expected 1 or more, and less than its own"
    )]
    Order {
        /// Its counter.
        counter: u64,
        /// The counter that it names.
        previous: u64,
    },
    /// It says the hash of an audit log without entries.
    #[error(
        "checkpoint {counter} says that no audit entry is there, and a hash of it: expected 32 zero bytes"
    )]
    AuditHead {
        /// Its counter.
        counter: u64,
    },
    /// Which of two records is meant cannot be told.
    #[error("key {key_id} is there twice: expected one record of each key")]
    KeyTwice {
        /// The key.
        key_id: KeyId,
    },
    /// A key's record names something else than a bundle of it.
    #[error(
        "the record of key {key_id} names {found:?}: expected the name of a bundle of this key"
    )]
    OtherBundle {
        /// The key.
        key_id: KeyId,
        /// What it names, its beginning.
        found: String,
    },
    /// It names something else than a bundle of its deployment.
    #[error("{found:?}: expected the name of a bundle of deployment {deployment}")]
    OtherDeploymentBundle {
        /// The deployment.
        deployment: Uuid,
        /// What it names, its beginning.
        found: String,
    },
}
