//! Master keys behind one trait: what wraps data keys, and never leaves its provider.
//!
//! `docs/format/README.md` defines the encryption context and what [`LocalKms`] stores.

#[cfg(feature = "aws")]
mod aws;
mod context;
mod error;
mod kms;
mod local;
mod master_key;

#[cfg(feature = "aws")]
pub use aws::{AwsKms, AwsMasterKey, AwsSettings, NotAwsMasterKey};
pub use context::EncryptionContext;
pub use error::{KeyFileProblem, KmsError};
pub use kms::{GeneratedKey, Kms, RewrappedKey, WrappedKey};
pub use local::{LocalKms, Passphrase};
pub use master_key::{MasterKeyInfo, MasterKeyState};
