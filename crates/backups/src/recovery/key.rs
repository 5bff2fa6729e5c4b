//! The RECOVERY pair: X-Wing, which is X25519 and ML-KEM-768 at once.

use std::fmt;

use hpke::{Deserializable, Kem, Serializable, kem::XWing};
use rekey_envelope::KeyMaterial;

use crate::Fingerprint;

/// Bytes that are no RECOVERY public key. Retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a RECOVERY public key: X-Wing, 1216 bytes; found {found} bytes that are none")]
pub struct NotARecoveryKey {
    /// How many bytes were given.
    pub found: usize,
}

/// The private half: the 32 bytes that X-Wing makes both its keys of. It leaves as shares only.
pub struct RecoveryKey(KeyMaterial);

/// The public half: who has it can seal bundles and open none.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryPublicKey {
    key: <XWing as Kem>::PublicKey,
    bytes: Vec<u8>,
}

impl RecoveryKey {
    /// A new pair.
    ///
    /// # Panics
    /// If the operating system has no random bytes to give.
    pub fn generate() -> Self {
        Self(KeyMaterial::generate())
    }

    pub(crate) fn from_seed(seed: KeyMaterial) -> Self {
        Self(seed)
    }

    /// What is split.
    pub(crate) fn seed(&self) -> &KeyMaterial {
        &self.0
    }

    /// What X-Wing opens with.
    pub(crate) fn private_key(&self) -> <XWing as Kem>::PrivateKey {
        Deserializable::from_bytes(self.0.expose_key_bytes()).expect("any 32 bytes are a seed")
    }

    /// The public half.
    pub fn public_key(&self) -> RecoveryPublicKey {
        RecoveryPublicKey::new(XWing::sk_to_pk(&self.private_key()))
    }
}

impl RecoveryPublicKey {
    fn new(key: <XWing as Kem>::PublicKey) -> Self {
        let bytes = key.to_bytes().to_vec();
        Self { key, bytes }
    }

    /// The 1216 bytes, that of ML-KEM-768 first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it is called by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.bytes)
    }

    pub(crate) fn key(&self) -> &<XWing as Kem>::PublicKey {
        &self.key
    }
}

impl TryFrom<&[u8]> for RecoveryPublicKey {
    type Error = NotARecoveryKey;

    fn try_from(bytes: &[u8]) -> Result<Self, NotARecoveryKey> {
        let key = Deserializable::from_bytes(bytes);
        let found = bytes.len();
        key.map(Self::new).map_err(|_| NotARecoveryKey { found })
    }
}

/// Shows the fingerprint.
impl fmt::Debug for RecoveryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryPublicKey({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_reads_back() {
        let key = RecoveryKey::generate().public_key();
        assert_eq!(key.as_bytes().len(), 1216);
        assert_eq!(RecoveryPublicKey::try_from(key.as_bytes()), Ok(key));
    }

    #[test]
    fn other_bytes_are_no_public_key() {
        for found in [0, 32, 1215, 1217] {
            let refused = RecoveryPublicKey::try_from(vec![0; found].as_slice());
            assert_eq!(refused, Err(NotARecoveryKey { found }));
        }
        // FIPS 203 §7.2: numbers that are not below the modulus make no key of ML-KEM.
        let refused = RecoveryPublicKey::try_from([0xff; 1216].as_slice());
        assert_eq!(refused, Err(NotARecoveryKey { found: 1216 }));
    }

    #[test]
    fn generated_pairs_differ() {
        let [one, other] = [(); 2].map(|()| RecoveryKey::generate().public_key().fingerprint());
        assert_ne!(one, other);
    }
}
