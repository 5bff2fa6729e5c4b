//! The wire format of a ciphertext, read without copying and without a key.

use std::fmt;

use rekey_domain::KeyId;

use crate::{cbc, gcm};

/// Tink's marker of an output prefix that carries a key id.
const VERSION: u8 = 0x01;
/// Bytes of the marker and the key id, which name key and algorithm.
pub const PREFIX_LEN: usize = 5;
/// Bytes through the longest nonce, which tell two ciphertexts apart whatever their algorithm.
pub const FINGERPRINT_LEN: usize = PREFIX_LEN + cbc::NONCE_LEN;
/// Bytes of the shortest ciphertext, that of an empty plaintext under AES-256-GCM.
pub const MIN_LEN: usize = PREFIX_LEN + gcm::NONCE_LEN + gcm::TAG_LEN;

/// A value that is not a ciphertext. Says what is wrong with its form, never its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCiphertext {
    /// There is no room for prefix, nonce and tag.
    #[error("not a ciphertext: expected at least {MIN_LEN} bytes, found {found}")]
    TooShort {
        /// How many bytes were given.
        found: usize,
    },
    /// It does not start as every ciphertext does; perhaps plaintext that was never encrypted.
    #[error("not a ciphertext: expected 0x01 as the first byte, found another")]
    WrongVersion,
    /// The text is not base64.
    #[error("not a ciphertext: expected standard base64 with padding, found other text")]
    NotBase64,
}

/// A ciphertext: `0x01 ‖ key id ‖ nonce ‖ ciphertext ‖ tag`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ciphertext<'a> {
    bytes: &'a [u8],
    key_id: KeyId,
}

impl<'a> Ciphertext<'a> {
    /// Reads `bytes` as a ciphertext, without judging whether it is authentic.
    ///
    /// # Errors
    /// [`NotCiphertext`] if they cannot be one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotCiphertext> {
        let (&[version, ref id @ ..], _) = bytes
            .split_first_chunk::<PREFIX_LEN>()
            .filter(|_| bytes.len() >= MIN_LEN)
            .ok_or(NotCiphertext::TooShort { found: bytes.len() })?;
        if version != VERSION {
            return Err(NotCiphertext::WrongVersion);
        }
        let key_id = KeyId::new(u32::from_be_bytes(*id));
        Ok(Self { bytes, key_id })
    }

    /// The key it is encrypted under.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Everything after the prefix: `nonce ‖ ciphertext ‖ tag`.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[PREFIX_LEN..]
    }

    /// Its first bytes, the nonce among them: two ciphertexts of a deployment share them only if they
    /// are the same one, so a compare-and-swap compares these.
    pub fn fingerprint(&self) -> &'a [u8] {
        &self.bytes[..FINGERPRINT_LEN]
    }

    /// The whole of it.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Leaves the bytes out: a log has no use for them, and they are a patient's data all the same.
impl fmt::Debug for Ciphertext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ciphertext")
            .field("key_id", &self.key_id)
            .field("len", &self.bytes.len())
            .finish()
    }
}

/// The first five bytes of every ciphertext under `id`.
pub fn prefix(id: KeyId) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = id.to_bytes();
    [VERSION, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_lie_where_tink_puts_them() {
        let bytes: Vec<u8> = prefix(KeyId::new(0x0a1b_2c3d))
            .into_iter()
            .chain(5..40)
            .collect();
        let ciphertext = Ciphertext::parse(&bytes).unwrap();
        assert_eq!(ciphertext.key_id().to_string(), "0a1b2c3d");
        assert_eq!(ciphertext.body(), &bytes[5..]);
        assert_eq!(ciphertext.fingerprint(), &bytes[..21]);
        assert_eq!(ciphertext.as_bytes(), bytes);
    }

    #[test]
    fn what_cannot_be_a_ciphertext_is_refused() {
        for found in 0..MIN_LEN {
            let refused = Ciphertext::parse(&[1; MIN_LEN][..found]);
            assert_eq!(refused, Err(NotCiphertext::TooShort { found }));
        }
        for version in (0..=255).filter(|&version| version != VERSION) {
            let refused = Ciphertext::parse(&[version; MIN_LEN]).err();
            assert_eq!(refused, Some(NotCiphertext::WrongVersion));
        }
        assert!(Ciphertext::parse(&[1; MIN_LEN]).is_ok());
    }

    #[test]
    fn debug_shows_no_bytes() {
        let shown = format!("{:?}", Ciphertext::parse(&[1; MIN_LEN]).unwrap());
        assert_eq!(shown, "Ciphertext { key_id: KeyId(16843009), len: 33 }");
    }
}
