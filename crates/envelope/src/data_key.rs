//! A data key ready for use: material, id and algorithm as one value.

use std::fmt;

use rekey_domain::{Algorithm, KeyId};
use zeroize::Zeroizing;

use crate::{Aead, AeadError, Cbc, Ciphertext, Gcm, KeyMaterial, prefix};

/// A key that is made to sign was asked to encrypt or decrypt. Retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key {key} signs and never encrypts: its keyring has purpose SIGNING")]
pub struct SignsOnly {
    /// The key.
    pub key: KeyId,
}

/// A data key that encrypts and decrypts whole ciphertexts.
///
/// It never tries a ciphertext that names another key: the id names the key, trial decryption is
/// not needed and would hide a mistake.
pub struct DataKey {
    id: KeyId,
    aead: Box<dyn Aead>,
}

impl DataKey {
    /// The key `id`, which uses `algorithm` with `material`.
    ///
    /// # Errors
    /// [`SignsOnly`] for a key that is made to sign.
    pub fn new(id: KeyId, algorithm: Algorithm, material: &KeyMaterial) -> Result<Self, SignsOnly> {
        let aead: Box<dyn Aead> = match algorithm {
            Algorithm::Aes256Gcm => Box::new(Gcm::new(material)),
            Algorithm::Aes256Cbc => Box::new(Cbc::new(material)),
            Algorithm::Ed25519 => return Err(SignsOnly { key: id }),
        };
        Ok(Self { id, aead })
    }

    /// The id that its ciphertexts carry.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Encrypts `plaintext`, bound to `aad`, and returns the whole ciphertext, prefix first.
    ///
    /// # Errors
    /// [`AeadError::TooLarge`] or [`AeadError::NoRandomness`].
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, AeadError> {
        let body = self.aead.encrypt(plaintext, aad)?;
        Ok([prefix(self.id).as_slice(), &body].concat())
    }

    /// Decrypts `ciphertext` if it is this key's, authentic, and bound to `aad`.
    ///
    /// # Errors
    /// [`AeadError::WrongKey`] if it names another key, [`AeadError::NotAuthentic`] if it was
    /// altered or is bound to something else.
    pub fn decrypt(
        &self,
        ciphertext: &Ciphertext<'_>,
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, AeadError> {
        if ciphertext.key_id() != self.id {
            return Err(AeadError::WrongKey {
                expected: self.id,
                found: ciphertext.key_id(),
            });
        }
        self.aead.decrypt(ciphertext.body(), aad)
    }
}

/// Shows the id only.
impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_keys_ciphertext_is_refused_before_it_is_tried() {
        let material = KeyMaterial::generate();
        let key = |id| DataKey::new(KeyId::new(id), Algorithm::Aes256Gcm, &material).unwrap();
        let bytes = key(1).encrypt(b"value", b"place").unwrap();
        let ciphertext = Ciphertext::parse(&bytes).unwrap();
        let error = AeadError::WrongKey {
            expected: KeyId::new(2),
            found: KeyId::new(1),
        };
        assert_eq!(key(2).decrypt(&ciphertext, b"place").err(), Some(error));
        assert_eq!(*key(1).decrypt(&ciphertext, b"place").unwrap(), b"value");
    }

    #[test]
    fn debug_shows_the_id_only() {
        let material = KeyMaterial::from_slice(&[7; 32]).unwrap();
        let key = DataKey::new(KeyId::new(9), Algorithm::Aes256Gcm, &material).unwrap();
        assert_eq!(format!("{key:?}"), "DataKey { id: KeyId(9), .. }");
    }

    #[test]
    fn a_key_that_signs_never_encrypts() {
        let (key, material) = (KeyId::new(9), KeyMaterial::generate());
        let refused = DataKey::new(key, Algorithm::Ed25519, &material).err();
        assert_eq!(refused, Some(SignsOnly { key }));
    }
}
