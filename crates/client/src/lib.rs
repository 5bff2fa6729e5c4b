//! Encrypt and decrypt for applications and workers, with cached keys.
//!
//! A [`Client`] asks whoever keeps the keys through [`Leases`], unwraps keys with a KMS, and encrypts
//! only while it holds a fresh lease to do so and encryptions drawn for it (rule 8). With everything
//! cached neither direction waits for anything.

mod client;
mod encrypt_right;
mod error;
mod key_cache;
mod keysets;
mod lease_error;
mod leases;
mod locked;
mod monotonic;
mod tally;
#[cfg(test)]
mod tests;
mod usage;

pub use client::Client;
pub use error::ClientError;
pub use key_cache::KeyCache;
pub use lease_error::LeaseError;
pub use leases::{Keyset, KeysetKey, LeaseGrant, Leases, Use};
