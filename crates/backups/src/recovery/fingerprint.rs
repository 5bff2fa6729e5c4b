//! What people and configurations call a RECOVERY key by.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// 160 bits: nobody makes a second key that has the same ones, and people can still compare them.
const LEN: usize = 20;
/// Hex digits between two hyphens.
const GROUP: usize = 4;

/// A text that is no fingerprint. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "fingerprint {found:?}: expected ten groups of four lower-case hex digits with hyphens between them"
)]
pub struct NotAFingerprint {
    /// What was given.
    pub found: String,
}

/// The first 20 bytes of the SHA-256 of a RECOVERY public key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{4}(-[0-9a-f]{4}){9}$"))]
pub struct Fingerprint([u8; LEN]);

impl Fingerprint {
    pub(crate) fn of(public_key: &[u8]) -> Self {
        let hash = Sha256::digest(public_key);
        Self(*hash.first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.0.chunks(GROUP / 2).map(hex::encode);
        f.write_str(&groups.collect::<Vec<_>>().join("-"))
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let mut bytes = [0; LEN];
        let read = hex::decode_to_slice(text.replace('-', ""), &mut bytes);
        let read = read.ok().map(|()| Self(bytes));
        // One text for one key: what is compared by eye has no second form.
        let exact = read.filter(|fingerprint| fingerprint.to_string() == text);
        exact.ok_or_else(|| NotAFingerprint {
            found: text.chars().take(100).collect(),
        })
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;

    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Fingerprint::of(b"");
        let text = "e3b0-c442-98fc-1c14-9afb-f4c8-996f-b924-27ae-41e4";
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.parse(), Ok(fingerprint));
        for bad in [
            "",
            "e3b0",
            &text.replace('-', ""),
            &text.replace('-', ":"),
            &text.to_uppercase(),
            &text[..48],
            &format!("{text}-0000"),
            &format!("{text} "),
            &text.replacen("-c", "c-", 1),
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }
}
