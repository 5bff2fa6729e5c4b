//! The start of a ciphertext tells it from every other, and names its key.

use rekey_domain::KeyId;
use rekey_envelope::{FINGERPRINT_LEN, decode_base64};

/// The first bytes of a ciphertext: prefix and nonce, which no other shares.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Start(pub(crate) [u8; FINGERPRINT_LEN]);

impl Start {
    /// The first bytes of a binary ciphertext.
    pub(crate) fn of_bytes(start: &[u8]) -> Option<Self> {
        let start = start.get(..FINGERPRINT_LEN)?;
        start.try_into().ok().map(Self)
    }

    /// The first characters of one in base64: whole groups of four.
    pub(crate) fn of_text(start: &str) -> Option<Self> {
        Self::of_bytes(&decode_base64(start.get(..START_CHARACTERS)?).ok()?)
    }

    /// The key that it names.
    pub(crate) fn key(&self) -> KeyId {
        let [_, a, b, c, d, ..] = self.0;
        KeyId::new(u32::from_be_bytes([a, b, c, d]))
    }
}

/// Characters of base64 that hold a start.
pub(crate) const START_CHARACTERS: usize = FINGERPRINT_LEN / 3 * 4;
