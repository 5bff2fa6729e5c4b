//! The seam behind which authenticated encryption stands, so that a FIPS build can bring its own.

use rekey_domain::KeyId;
use zeroize::Zeroizing;

/// A value that could not be encrypted or decrypted. Names lengths and key ids, never contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The tag does not fit; of CBC, whatever else is wrong as well. Retrying does not help.
    #[error(
        "the value does not authenticate: it was altered, or its key or its row and column are not the ones given"
    )]
    NotAuthentic,
    /// The plaintext is longer than one message may be (SP 800-38D §5.2.1.1).
    #[error("the value is too large: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// The longest plaintext of one message.
        limit: u64,
        /// How many bytes were given.
        found: u64,
    },
    /// There is no room for a nonce and a tag. Lengths are no secret.
    #[error(
        "the value is too short for nonce and tag: expected at least {expected} bytes, found {found}"
    )]
    TooShort {
        /// The length of an empty message.
        expected: usize,
        /// How many bytes were given.
        found: usize,
    },
    /// The ciphertext names another key than the one it was given to. Look the key up by its id.
    #[error("the value is encrypted under key {found}, this is key {expected}")]
    WrongKey {
        /// The key that was asked to decrypt.
        expected: KeyId,
        /// The key that the ciphertext names.
        found: KeyId,
    },
    /// The operating system gave no random bytes for a nonce; without one nothing may be encrypted.
    #[error("the operating system gave no random bytes for a nonce; nothing was encrypted")]
    NoRandomness,
}

/// Authenticated encryption with associated data, under one key.
///
/// A body is `nonce ‖ ciphertext ‖ tag`; its nonce is drawn afresh for each message.
pub trait Aead: Send + Sync {
    /// Encrypts `plaintext` and authenticates `aad` with it.
    ///
    /// # Errors
    /// [`AeadError::TooLarge`] or [`AeadError::NoRandomness`].
    fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, AeadError>;

    /// Decrypts `body` if it and `aad` are what was encrypted.
    ///
    /// # Errors
    /// [`AeadError::NotAuthentic`] if they are not, [`AeadError::TooShort`] or
    /// [`AeadError::TooLarge`] if `body` cannot be one.
    fn decrypt(&self, body: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, AeadError>;

    /// The length of the nonce at the start of a body.
    fn nonce_len(&self) -> usize;
}
