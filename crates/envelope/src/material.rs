//! Key material as a type: 256 bits that zeroize on drop and are read in one greppable way.

use rand::{TryRng, rngs::SysRng};
use zeroize::Zeroizing;

/// Bytes in a data key.
const KEY_LEN: usize = 32;

/// Bytes that cannot be a key: data keys and master keys have 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key material: expected {KEY_LEN} bytes, found {found}")]
pub struct WrongKeyLength {
    /// How many bytes were given.
    pub found: usize,
}

/// The 256 bits of a key.
///
/// It has no `Debug`, `Display`, `Clone`, `PartialEq` or `Serialize`: key material reaches a log,
/// a message or a copy only through [`expose_key_bytes`](Self::expose_key_bytes).
pub struct KeyMaterial(
    // Boxed, so that moving the value moves a pointer and leaves no copy of the bytes behind.
    Box<Zeroizing<[u8; KEY_LEN]>>,
);

impl KeyMaterial {
    /// New key material from the operating system's random bytes.
    ///
    /// # Panics
    /// If the operating system has none to give: a process that went on would make weak keys.
    pub fn generate() -> Self {
        let mut material = Self::zeroed();
        SysRng
            .try_fill_bytes(material.0.as_mut_slice())
            .expect("the operating system gives random bytes");
        material
    }

    /// Key material copied from `bytes`, which the caller zeroizes.
    ///
    /// # Errors
    /// [`WrongKeyLength`] unless there are 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, WrongKeyLength> {
        if bytes.len() != KEY_LEN {
            return Err(WrongKeyLength { found: bytes.len() });
        }
        let mut material = Self::zeroed();
        material.0.copy_from_slice(bytes);
        Ok(material)
    }

    /// The bytes themselves: the only way to read them, so that every use can be found.
    pub fn expose_key_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Made empty and filled in place, so that no key passes over the stack.
    fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LEN])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while the type lacks the trait: with it, two impls fit `_` and neither wins.
    macro_rules! assert_not_implemented {
        ($type:ty: $($bound:path),+) => {$({
            trait Lacks<Marker> {
                fn it() {}
            }
            struct Implemented;
            impl<T: ?Sized> Lacks<()> for T {}
            impl<T: ?Sized + $bound> Lacks<Implemented> for T {}
            <$type as Lacks<_>>::it();
        })+};
    }

    #[test]
    fn key_material_cannot_be_shown_copied_compared_or_sent() {
        assert_not_implemented!(
            KeyMaterial: std::fmt::Debug, std::fmt::Display, Clone, PartialEq, serde::Serialize,
            AsRef<[u8]>, std::ops::Deref, std::hash::Hash
        );
    }

    #[test]
    fn only_256_bits_are_a_key() {
        for found in [0, 16, 24, 31, 33, 64] {
            let refused = KeyMaterial::from_slice(&vec![7; found]).err();
            assert_eq!(refused, Some(WrongKeyLength { found }));
        }
        let kept = KeyMaterial::from_slice(&[7; 32]).unwrap();
        assert_eq!(kept.expose_key_bytes(), &[7; 32]);
    }

    #[test]
    fn generated_keys_differ() {
        let [one, other] = [KeyMaterial::generate(), KeyMaterial::generate()];
        assert_ne!(one.expose_key_bytes(), other.expose_key_bytes());
        assert_ne!(one.expose_key_bytes(), &[0; 32]);
    }
}
