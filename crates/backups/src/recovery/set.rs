//! What all shares of one set say alike, and what they commit to.

use rekey_envelope::KeyMaterial;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::Fingerprint;

/// The most shares of one set.
pub const MAX_SHARES: u8 = 32;
/// The fewest that combine: a threshold of one would be copies of the key.
pub(crate) const MIN_THRESHOLD: u8 = 2;
/// Keeps commitments apart from any other hash.
const COMMITMENT: &[u8] = b"rekey recovery share v1 commitment";

/// What all shares of one set say alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SetOfShares {
    pub set: Uuid,
    pub threshold: u8,
    pub shares: u8,
    pub fingerprint: Fingerprint,
    pub counter: u64,
    /// Of each share, by its number.
    pub commitments: Vec<[u8; 32]>,
}

impl SetOfShares {
    /// Whether so many of so many can be made.
    pub(crate) fn can_be(&self) -> bool {
        (MIN_THRESHOLD..=self.shares).contains(&self.threshold) && self.shares <= MAX_SHARES
    }
}

/// What a share hashes to. It says nothing of a share to whoever lacks it, as a share is 256 random bits.
pub(crate) fn commitment(set: Uuid, index: u8, value: &KeyMaterial) -> [u8; 32] {
    let hash = Sha256::new()
        .chain_update(COMMITMENT)
        .chain_update(set.as_bytes())
        .chain_update([index])
        .chain_update(value.expose_key_bytes());
    hash.finalize().into()
}
