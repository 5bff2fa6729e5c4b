//! Backups of keys: bundles with their seals, the RECOVERY key and its shares, checkpoints of what became of keys.
//!
//! `docs/format/bundle.md` and `docs/format/checkpoint.md` are the definition; their golden files are kept for ever and
//! tested here.
//! Nothing in this crate does IO, except that it asks the operating system for random bytes.

mod associated_data;
mod backup_seal;
mod bundle;
mod checkpoint;
mod contents;
mod deployment;
mod document;
mod encoding;
mod error;
mod name;
mod recovery;
mod recovery_seal;
#[cfg(test)]
mod schema_tests;
mod states;
mod strict;
mod synthetic;

pub use backup_seal::BackupKey;
pub use bundle::{Bundle, Under};
pub use checkpoint::{
    AuditHead, Checkpoint, MAX_CHECKPOINT_LEN, Previous,
    chain::{ChainError, newest},
    error::CheckpointError,
    signed::SignedCheckpoint,
};
pub use contents::{BackedUpKey, KeyDetails};
pub use deployment::{DeploymentBundle, MAX_DEPLOYMENT_LEN};
pub use document::MAX_LEN;
pub use error::{BundleError, Seal};
pub use name::{BundleName, NotABundleName};
pub use recovery::{
    combine::{CombineError, Problem, Wrong, combine},
    error::ShareError,
    fingerprint::{Fingerprint, NotAFingerprint},
    key::{NotARecoveryKey, RecoveryKey, RecoveryPublicKey},
    set::MAX_SHARES,
    share::Share,
};
pub use states::{KeyRecord, MAX_STATES_LEN, StatesDocument};
