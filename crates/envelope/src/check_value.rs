//! A key's check value: stored beside the wrapped key, it tells a wrong or swapped key at unwrap.

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::KeyMaterial;

/// The label that keeps check values apart from anything else derived from a key.
const INFO: &[u8] = b"rekey key check value v1";
/// Bytes in a check value.
const LEN: usize = 32;

/// Bytes that cannot be a check value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("check value: expected {LEN} bytes, found {found}")]
pub struct WrongCheckValueLength {
    /// How many bytes were given.
    pub found: usize,
}

/// `HKDF-SHA256(material, no salt, "rekey key check value v1")`: says nothing about the key but
/// whether this is it.
#[derive(Debug, Clone, Copy)]
pub struct CheckValue([u8; LEN]);

impl CheckValue {
    /// The check value of `material`.
    pub fn of(material: &KeyMaterial) -> Self {
        let mut value = [0; LEN];
        Hkdf::<Sha256>::new(None, material.expose_key_bytes())
            .expand(INFO, &mut value)
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        Self(value)
    }

    /// Whether `material` is the key this was taken of; in constant time.
    pub fn matches(&self, material: &KeyMaterial) -> bool {
        self.0.ct_eq(&Self::of(material).0).into()
    }

    /// The value as it is stored.
    pub fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl TryFrom<&[u8]> for CheckValue {
    type Error = WrongCheckValueLength;

    fn try_from(bytes: &[u8]) -> Result<Self, WrongCheckValueLength> {
        let value = bytes.try_into();
        value
            .map(Self)
            .map_err(|_| WrongCheckValueLength { found: bytes.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_matches() {
        let key = |byte| KeyMaterial::from_slice(&[byte; 32]).unwrap();
        let value = CheckValue::of(&key(1));
        assert!(value.matches(&key(1)));
        assert!(!value.matches(&key(2)));
    }

    #[test]
    fn a_stored_value_reads_back() {
        let material = KeyMaterial::generate();
        let stored = CheckValue::of(&material).as_bytes().to_vec();
        assert!(
            CheckValue::try_from(stored.as_slice())
                .unwrap()
                .matches(&material)
        );
        let error = CheckValue::try_from(&stored[1..]).unwrap_err();
        assert_eq!(error, WrongCheckValueLength { found: 31 });
    }
}
