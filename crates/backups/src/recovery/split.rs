//! A RECOVERY key becomes shares, by Shamir's scheme over GF(256).

use rand::{CryptoRng, rand_core::UnwrapErr, rngs::SysRng};
use rekey_envelope::{KeyMaterial, Zeroizing};
use uuid::{Builder, Uuid};
use vsss_rs::Gf256;

use crate::{
    RecoveryKey, Share, ShareError,
    recovery::set::{SetOfShares, commitment},
};

impl RecoveryKey {
    /// A new set of `shares` shares, of which any `threshold` make the key again and fewer tell nothing of it.
    /// `counter` is that of the newest checkpoint.
    ///
    /// # Errors
    /// [`ShareError::NoSuchSet`] unless it is at least 2 of at most [`MAX_SHARES`](crate::MAX_SHARES).
    ///
    /// # Panics
    /// If the operating system has no random bytes to give.
    pub fn split(&self, threshold: u8, shares: u8, counter: u64) -> Result<Vec<Share>, ShareError> {
        self.split_with(threshold, shares, counter, &mut UnwrapErr(SysRng))
    }

    pub(crate) fn split_with(
        &self,
        threshold: u8,
        shares: u8,
        counter: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Share>, ShareError> {
        let mut set = SetOfShares {
            set: random_uuid(rng),
            threshold,
            shares,
            fingerprint: self.public_key().fingerprint(),
            counter,
            commitments: Vec::new(),
        };
        if !set.can_be() {
            return Err(ShareError::NoSuchSet { threshold, shares });
        }
        let values = self.values(threshold, shares, rng);
        let commit = |(index, value): (u8, &KeyMaterial)| commitment(set.set, index, value);
        set.commitments = (1..).zip(&values).map(commit).collect();
        let share = |(index, value)| Share {
            set: set.clone(),
            index,
            value,
        };
        Ok((1..).zip(values).map(share).collect())
    }

    /// The value of each share, in the order of their numbers 1, 2, 3 …
    fn values(&self, threshold: u8, shares: u8, rng: &mut impl CryptoRng) -> Vec<KeyMaterial> {
        let seed = self.seed().expose_key_bytes();
        let split = Gf256::split_bytes(threshold.into(), shares.into(), seed, rng);
        let split = Zeroizing::new(split.expect("the numbers were checked"));
        let value = |bytes: &Vec<u8>| {
            // The number stands before the value.
            KeyMaterial::from_slice(&bytes[1..]).expect("a share is as long as what is shared")
        };
        split.iter().map(value).collect()
    }
}

fn random_uuid(rng: &mut impl CryptoRng) -> Uuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}
