//! A bundle's name: derived from its bytes, so that no other bytes have it.

use std::{fmt, str::FromStr};

use rekey_domain::KeyId;
use sha2::{Digest, Sha256};

/// A text that is no name of a bundle. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?}: expected bundles/KEY ID/SHA-256.json, in lower-case hex")]
pub struct NotABundleName {
    /// What was given.
    pub found: String,
}

/// `bundles/<key id>/<SHA-256 of the bytes>.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleName {
    key_id: KeyId,
    sha256: [u8; 32],
}

impl BundleName {
    /// The name of a bundle of `key_id` that has these bytes.
    pub fn of(key_id: KeyId, bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).into();
        Self { key_id, sha256 }
    }

    /// Whose key's bundle it is.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
}

impl fmt::Display for BundleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bundles/{}/{}.json",
            self.key_id,
            hex::encode(self.sha256)
        )
    }
}

impl FromStr for BundleName {
    type Err = NotABundleName;

    fn from_str(text: &str) -> Result<Self, NotABundleName> {
        let read = || {
            let (key_id, rest) = text.strip_prefix("bundles/")?.split_once('/')?;
            let mut sha256 = [0; 32];
            hex::decode_to_slice(rest.strip_suffix(".json")?, &mut sha256).ok()?;
            let key_id = key_id.parse().ok()?;
            Some(Self { key_id, sha256 })
        };
        // One name for one bundle: capital letters would be a second.
        let found = || text.chars().take(100).collect();
        let name = read().filter(|name| name.to_string() == text);
        name.ok_or_else(|| NotABundleName { found: found() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let name = BundleName::of(KeyId::new(0x0a1b_2c3d), b"");
        let text = "bundles/0a1b2c3d/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json";
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
        for bad in [
            "",
            "bundles/0a1b2c3d/e3b0.json",
            &text[1..],
            &text.to_uppercase(),
            &text.replace("e3b0", "E3B0"),
            &text.replace("0a1b2c3d", "0A1B2C3D"),
            &text.replace("0a1b2c3d/", "0a1b2c3d//"),
            &format!("/{text}"),
            &format!("{text}\n"),
        ] {
            assert!(bad.parse::<BundleName>().is_err(), "{bad:?}");
        }
    }
}
