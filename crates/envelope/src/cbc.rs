//! AES-256-CBC: RFC 7518 §5.2.5 `A256CBC-HS512`, random 128-bit IV, 256-bit tag.

use aes::{
    Aes256,
    cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit, block_padding::Pkcs7},
};
use cbc::{Decryptor, Encryptor};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use crate::{Aead, AeadError, KeyMaterial, random};

/// Bytes of the IV, the nonce of this algorithm.
pub(crate) const NONCE_LEN: usize = 16;
/// Bytes of the tag: half of what HMAC-SHA-512 gives.
const TAG_LEN: usize = 32;
/// Bytes of a block; padding adds one to sixteen.
const BLOCK_LEN: usize = 16;
/// Bytes of the two keys: that of the MAC, then that of AES (RFC 7518 §5.2.2.1).
const KEYS_LEN: usize = 64;
/// The label that keeps these keys apart from anything else derived from a data key.
const INFO: &[u8] = b"rekey A256CBC-HS512 keys v1";

/// AES-256-CBC with HMAC-SHA-512 under one key: encrypt, then MAC.
///
/// Decryption gives one error for everything that can be wrong, and compares the tag before it decrypts, so that
/// padding tells nobody anything.
pub struct Cbc {
    mac: Hmac<Sha512>,
    cipher: Aes256,
}

impl Cbc {
    /// The cipher for `material`, from which both of its keys are derived.
    pub fn new(material: &KeyMaterial) -> Self {
        Self::of_keys(&derive_keys(material))
    }

    /// The cipher for the two keys as they are; of ours they are derived, so nothing else but test
    /// vectors calls this.
    pub(crate) fn of_keys(keys: &[u8; KEYS_LEN]) -> Self {
        let (mac_key, cipher_key) = keys.split_at(KEYS_LEN / 2);
        Self {
            mac: Hmac::new_from_slice(mac_key).expect("HMAC takes keys of any length"),
            cipher: Aes256::new_from_slice(cipher_key).expect("half of the keys has 256 bits"),
        }
    }

    /// A body under an IV that the caller answers for: one that can be foretold breaks secrecy, so
    /// nothing but [`Aead::encrypt`] and test vectors call this.
    pub(crate) fn encrypt_with_nonce(
        &self,
        nonce: &[u8; NONCE_LEN],
        plaintext: &[u8],
        aad: &[u8],
    ) -> Vec<u8> {
        let padded = (plaintext.len() / BLOCK_LEN + 1) * BLOCK_LEN;
        // The full capacity at once: growing would leave a copy of the plaintext behind.
        let mut body = Vec::with_capacity(NONCE_LEN + padded + TAG_LEN);
        body.extend_from_slice(nonce);
        body.extend_from_slice(plaintext);
        body.resize(NONCE_LEN + padded, 0);
        Encryptor::inner_iv_init(self.cipher.clone(), nonce.into())
            .encrypt_padded::<Pkcs7>(&mut body[NONCE_LEN..], plaintext.len())
            .expect("there is room for the padding");
        let tag = self.mac_of(aad, &body).finalize().into_bytes();
        body.extend_from_slice(&tag[..TAG_LEN]);
        body
    }

    /// RFC 7518 §5.2.2.1: over associated data, IV, ciphertext and the bits of associated data.
    fn mac_of(&self, aad: &[u8], nonce_and_ciphertext: &[u8]) -> Hmac<Sha512> {
        let aad_bits = (aad.len() as u64) * 8;
        self.mac
            .clone()
            .chain_update(aad)
            .chain_update(nonce_and_ciphertext)
            .chain_update(aad_bits.to_be_bytes())
    }
}

impl Aead for Cbc {
    fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, AeadError> {
        Ok(self.encrypt_with_nonce(&random::nonce()?, plaintext, aad))
    }

    fn decrypt(&self, body: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        let (authentic, tag) = body
            .split_last_chunk::<TAG_LEN>()
            .ok_or(AeadError::NotAuthentic)?;
        let (nonce, ciphertext) = authentic
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(AeadError::NotAuthentic)?;
        self.mac_of(aad, authentic)
            .verify_truncated_left(tag)
            .map_err(|_| AeadError::NotAuthentic)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let len = Decryptor::inner_iv_init(self.cipher.clone(), nonce.into())
            .decrypt_padded::<Pkcs7>(&mut plaintext)
            .map_err(|_| AeadError::NotAuthentic)?
            .len();
        plaintext.truncate(len);
        Ok(plaintext)
    }

    fn nonce_len(&self) -> usize {
        NONCE_LEN
    }
}

/// The key of the MAC, then that of AES.
fn derive_keys(material: &KeyMaterial) -> Zeroizing<[u8; KEYS_LEN]> {
    let mut keys = Zeroizing::new([0; KEYS_LEN]);
    Hkdf::<Sha256>::new(None, material.expose_key_bytes())
        .expand(INFO, keys.as_mut_slice())
        .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518 appendix B.3, whose IV is that of all of appendix B.
    #[test]
    fn the_example_of_the_rfc_is_what_comes_out() {
        let keys: [u8; KEYS_LEN] = std::array::from_fn(|i| i as u8);
        let iv = *b"\x1a\xf3\x8c\x2d\xc2\xb9\x6f\xfd\xd8\x66\x94\x09\x23\x41\xbc\x04";
        let plaintext = b"A cipher system must not be required to be secret, and it must be able \
            to fall into the hands of the enemy without inconvenience";
        let aad = b"The second principle of Auguste Kerckhoffs";
        let body = Cbc::of_keys(&keys).encrypt_with_nonce(&iv, plaintext, aad);
        let hex = hex::encode(&body);
        assert_eq!(
            hex,
            "1af38c2dc2b96ffdd86694092341bc04\
             4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd\
             822c301dd67c373bccb584ad3e9279c2e6d12a1374b77f077553df829410446b\
             36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3\
             a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950b\
             be2638d09dd7a4930930806d0703b1f6\
             4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5"
        );
        let opened = Cbc::of_keys(&keys).decrypt(&body, aad).unwrap();
        assert_eq!(opened.as_slice(), plaintext);
    }

    /// Golden: another derivation would make stored data unreadable.
    #[test]
    fn derived_keys_are_still_the_same() {
        let golden = include_str!("../../../docs/format/cbc-keys.json");
        let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
        assert!(golden.len() >= 3, "it has lost vectors");
        for vector in golden {
            let [key, mac_key, aes_key] = ["key", "mac_key", "aes_key"]
                .map(|name| hex::decode(vector[name].as_str().unwrap()).unwrap());
            let derived = derive_keys(&KeyMaterial::from_slice(&key).unwrap());
            assert_eq!(derived.as_slice(), [mac_key, aes_key].concat(), "{vector}");
        }
    }

    #[test]
    fn the_cipher_zeroizes_its_keys() {
        fn zeroizes<T: zeroize::ZeroizeOnDrop>() {}
        zeroizes::<Aes256>();
        // HMAC keeps its key as two states of its hash.
        zeroizes::<Sha512>();
    }

    #[test]
    fn an_iv_is_drawn_for_each_message() {
        let cbc = Cbc::new(&KeyMaterial::generate());
        let [one, other] = [(); 2].map(|()| cbc.encrypt(b"same", b"").unwrap());
        assert_ne!(one[..cbc.nonce_len()], other[..cbc.nonce_len()]);
    }

    /// Whoever has no key must not learn at which step a value failed.
    #[test]
    fn whatever_is_wrong_the_error_is_the_same() {
        // Under one key in 256, padding that is not ours would pass for it.
        let cbc = Cbc::new(&KeyMaterial::from_slice(&[3; 32]).unwrap());
        let refused = |body: &[u8]| cbc.decrypt(body, b"place").err();
        for len in 0..100 {
            assert_eq!(refused(&vec![7; len]), Some(AeadError::NotAuthentic));
        }
        // Authentic, but no padding of ours: a body that only a holder of the key could make.
        for ciphertext in [vec![], vec![7; 15], vec![7; 16], vec![7; 48]] {
            let unpadded = [[0; NONCE_LEN].as_slice(), &ciphertext].concat();
            let tag = cbc.mac_of(b"place", &unpadded).finalize().into_bytes();
            let body = [unpadded.as_slice(), &tag[..TAG_LEN]].concat();
            assert_eq!(refused(&body), Some(AeadError::NotAuthentic));
        }
    }
}
