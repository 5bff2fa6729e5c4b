//! AES-256-GCM: random 96-bit nonce, 128-bit tag.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use zeroize::Zeroizing;

use crate::{Aead, AeadError, KeyMaterial, random};

/// Bytes of the nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes of the tag.
pub(crate) const TAG_LEN: usize = 16;
/// SP 800-38D §5.2.1.1: a plaintext has at most 2^39 − 256 bits.
const MAX_PLAINTEXT: u64 = (1 << 36) - 32;

/// AES-256-GCM under one key.
///
/// At most 2^32 messages may be encrypted under a key with random nonces (SP 800-38D §8.3); the
/// caller counts them.
pub struct Gcm(Aes256Gcm);

impl Gcm {
    /// The cipher for `material`.
    pub fn new(material: &KeyMaterial) -> Self {
        Self(Aes256Gcm::new(material.expose_key_bytes().into()))
    }

    /// A body under a nonce that the caller answers for: used twice with one key it breaks both
    /// secrecy and authenticity, so nothing but [`Aead::encrypt`] and test vectors call this.
    pub(crate) fn encrypt_with_nonce(
        &self,
        nonce: &[u8; NONCE_LEN],
        plaintext: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, AeadError> {
        check_length(plaintext.len())?;
        // The full capacity at once: growing would leave a copy of the plaintext behind.
        let mut body = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_LEN);
        body.extend_from_slice(nonce);
        body.extend_from_slice(plaintext);
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), aad, (&mut body[NONCE_LEN..]).into())
            .expect("the length was checked, and no associated data reaches 2^61 bytes");
        body.extend_from_slice(&tag);
        Ok(body)
    }
}

impl Aead for Gcm {
    fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, AeadError> {
        self.encrypt_with_nonce(&random::nonce()?, plaintext, aad)
    }

    fn decrypt(&self, body: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        let (nonce, ciphertext, tag) = split(body).ok_or(AeadError::TooShort {
            expected: NONCE_LEN + TAG_LEN,
            found: body.len(),
        })?;
        check_length(ciphertext.len())?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        self.0
            .decrypt_inout_detached(
                nonce.into(),
                aad,
                plaintext.as_mut_slice().into(),
                tag.into(),
            )
            .map_err(|_| AeadError::NotAuthentic)?;
        Ok(plaintext)
    }

    fn nonce_len(&self) -> usize {
        NONCE_LEN
    }
}

fn check_length(plaintext_len: usize) -> Result<(), AeadError> {
    let found = plaintext_len as u64;
    if found <= MAX_PLAINTEXT {
        return Ok(());
    }
    Err(AeadError::TooLarge {
        limit: MAX_PLAINTEXT,
        found,
    })
}

fn split(body: &[u8]) -> Option<(&[u8; NONCE_LEN], &[u8], &[u8; TAG_LEN])> {
    let (nonce, rest) = body.split_first_chunk()?;
    let (ciphertext, tag) = rest.split_last_chunk()?;
    Some((nonce, ciphertext, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cipher_zeroizes_its_key_schedule() {
        fn zeroizes<T: zeroize::ZeroizeOnDrop>() {}
        zeroizes::<Aes256Gcm>();
    }

    #[test]
    fn a_nonce_is_drawn_for_each_message() {
        let gcm = Gcm::new(&KeyMaterial::generate());
        let [one, other] = [(); 2].map(|()| gcm.encrypt(b"same", b"").unwrap());
        assert_ne!(one[..gcm.nonce_len()], other[..gcm.nonce_len()]);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_longest_message_is_the_standards() {
        assert_eq!(check_length(MAX_PLAINTEXT as usize), Ok(()));
        let error = AeadError::TooLarge {
            limit: 68_719_476_704,
            found: 68_719_476_705,
        };
        assert_eq!(check_length(68_719_476_705), Err(error));
    }

    #[test]
    fn a_body_without_room_for_nonce_and_tag_is_refused() {
        let gcm = Gcm::new(&KeyMaterial::generate());
        for found in 0..NONCE_LEN + TAG_LEN {
            let error = AeadError::TooShort {
                expected: 28,
                found,
            };
            assert_eq!(gcm.decrypt(&vec![0; found], b"").err(), Some(error));
        }
    }
}
