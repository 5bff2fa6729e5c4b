//! Chance that is derived: what a seal needs of random bytes, from the secret that it seals.
//!
//! So the same key sealed again gives the same bytes. Why that is sound:
//! `docs/decisions/0058-seals-that-come-out-the-same.md`.

use std::convert::Infallible;

use hkdf::Hkdf;
use rand::{TryCryptoRng, TryRng};
use rekey_envelope::KeyMaterial;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Bytes that one X-Wing encapsulation takes.
const ENCAPSULATION: usize = 64;

/// What is sealed, and for whom. All of it goes into the derivation: what was left out and changed would seal two
/// things with the same nonce.
pub(crate) struct Sealed<'a> {
    /// What is uniformly random in it, and nobody else has.
    pub secret: &'a KeyMaterial,
    pub plaintext: &'a [u8],
    pub associated_data: &'a [u8],
}

impl Sealed<'_> {
    /// `LEN` bytes that look random to whoever lacks the secret.
    pub(crate) fn derive<const LEN: usize>(
        &self,
        label: &[u8],
        recipient: &[u8],
    ) -> Zeroizing<[u8; LEN]> {
        let hashes = [self.plaintext, self.associated_data].map(Sha256::digest);
        let info = [label, &hashes[0], &hashes[1], recipient];
        let mut bytes = Zeroizing::new([0; LEN]);
        Hkdf::<Sha256>::new(None, self.secret.expose_key_bytes())
            .expand_multi_info(&info, bytes.as_mut_slice())
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        bytes
    }
}

/// A generator that hands out exactly its 64 bytes, at once and one time.
///
/// A library that asked in another way would seal in another way, and every drill would cry. So whoever
/// uses this looks at [`was_asked_once`](Self::was_asked_once) and throws away what was made otherwise.
pub(crate) struct AtOnce {
    bytes: Zeroizing<[u8; ENCAPSULATION]>,
    asked: u32,
    otherwise: bool,
}

impl AtOnce {
    pub(crate) fn new(bytes: Zeroizing<[u8; ENCAPSULATION]>) -> Self {
        Self {
            bytes,
            asked: 0,
            otherwise: false,
        }
    }

    /// Whether it was asked for all of its bytes at once, and for nothing else.
    pub(crate) fn was_asked_once(&self) -> bool {
        self.asked == 1 && !self.otherwise
    }
}

impl TryRng for AtOnce {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.otherwise = true;
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.otherwise = true;
        Ok(0)
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.asked += 1;
        self.otherwise |= to.len() != ENCAPSULATION || self.asked > 1;
        match self.otherwise {
            true => to.zeroize(),
            false => to.copy_from_slice(self.bytes.as_slice()),
        }
        Ok(())
    }
}

impl TryCryptoRng for AtOnce {}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn generator() -> AtOnce {
        AtOnce::new(Zeroizing::new([7; ENCAPSULATION]))
    }

    #[test]
    fn all_bytes_at_once_are_handed_out() {
        let (mut generator, mut bytes) = (generator(), [0; 64]);
        assert!(!generator.was_asked_once());
        generator.fill_bytes(&mut bytes);
        assert_eq!(bytes, [7; 64]);
        assert!(generator.was_asked_once());
    }

    #[test]
    fn whoever_asks_in_another_way_is_found_out() {
        let otherwise: [fn(&mut AtOnce); 6] = [
            |_| (),
            |generator| generator.fill_bytes(&mut [0; 32]),
            |generator| generator.fill_bytes(&mut [0; 65]),
            |generator| _ = (generator.next_u32(), generator.fill_bytes(&mut [0; 64])),
            |generator| _ = (generator.fill_bytes(&mut [0; 64]), generator.next_u64()),
            |generator| {
                generator.fill_bytes(&mut [0; 64]);
                generator.fill_bytes(&mut [0; 64]);
            },
        ];
        for (at, ask) in otherwise.iter().enumerate() {
            let mut generator = generator();
            ask(&mut generator);
            assert!(!generator.was_asked_once(), "{at}");
        }
    }

    #[test]
    fn whatever_is_changed_changes_what_is_derived() {
        let [one, other] = [1, 2].map(|byte| KeyMaterial::from_slice(&[byte; 32]).unwrap());
        let derive = |secret, plaintext: &[u8], associated_data: &[u8], label: &[u8], to: &[u8]| {
            let sealed = Sealed {
                secret,
                plaintext,
                associated_data,
            };
            sealed.derive::<64>(label, to)
        };
        let all = [
            derive(&one, b"text", b"data", b"label", b"whom"),
            derive(&other, b"text", b"data", b"label", b"whom"),
            derive(&one, b"texts", b"data", b"label", b"whom"),
            derive(&one, b"text", b"dat", b"label", b"whom"),
            derive(&one, b"textd", b"ata", b"label", b"whom"),
            derive(&one, b"text", b"data", b"labels", b"whom"),
            derive(&one, b"text", b"data", b"label", b"who"),
        ];
        for (at, bytes) in all.iter().enumerate() {
            assert!(!all[..at].contains(bytes), "{at}");
        }
    }
}
