//! The names people and ciphertexts use: `phi`, `phi/3`, and the 32-bit key id.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Keyring names are short and safe in paths, queue names and labels.
    #[error("keyring name {found:?}: expected 1 to 40 of a-z, 0-9 and '-', starting with a letter")]
    Keyring {
        /// What was given.
        found: String,
    },
    /// Key ids are eight hex digits.
    #[error("key id {found:?}: expected eight hex digits, such as 0a1b2c3d")]
    KeyId {
        /// What was given.
        found: String,
    },
    /// Key names are a keyring name, a slash and a version.
    #[error("key name {found:?}: expected KEYRING/VERSION, such as phi/3")]
    KeyName {
        /// What was given.
        found: String,
    },
}

/// A key's 32-bit id: random, unique in a deployment, carried by every ciphertext (Tink's key id).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeyId(u32);

impl KeyId {
    /// The key id that `value` stands for.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The id as a number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The id as it stands in a ciphertext: four bytes, big endian.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex_digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let parsed = u32::from_str_radix(text, 16).ok().filter(|_| hex_digits);
        parsed.map(Self).ok_or_else(|| NameError::KeyId {
            found: text.to_owned(),
        })
    }
}

impl TryFrom<String> for KeyId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// The name of a keyring, such as `phi`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeyringName(String);

impl KeyringName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyringName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyringName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        let safe = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if starts_well && text.len() <= 40 && text.bytes().all(safe) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::Keyring {
            found: text.to_owned(),
        })
    }
}

impl TryFrom<String> for KeyringName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<KeyringName> for String {
    fn from(name: KeyringName) -> Self {
        name.0
    }
}

/// A key by its place in its keyring, `phi/3`: what people see everywhere.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeyName {
    /// The keyring.
    pub keyring: KeyringName,
    /// The version: 1, 2, 3 …
    pub version: u32,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.keyring, self.version)
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::KeyName {
            found: text.to_owned(),
        };
        let (keyring, version) = text.split_once('/').ok_or_else(error)?;
        let plain = !version.is_empty()
            && !version.starts_with('0')
            && version.bytes().all(|b| b.is_ascii_digit());
        let version = version.parse().ok().filter(|_| plain).ok_or_else(error)?;
        Ok(Self {
            keyring: keyring.parse().map_err(|_| error())?,
            version,
        })
    }
}

impl TryFrom<String> for KeyName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.to_string()
    }
}

/// A key as people and events name it: `phi/3`, or by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum KeyRef {
    /// By its place in its keyring.
    Name(KeyName),
    /// As ciphertext names it.
    Id(KeyId),
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for KeyRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl TryFrom<String> for KeyRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<KeyRef> for String {
    fn from(key: KeyRef) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_keyring_and_version() {
        let name: KeyName = "phi/3".parse().unwrap();
        assert_eq!((name.keyring.as_str(), name.version), ("phi", 3));
        assert_eq!(name.to_string(), "phi/3");
    }

    #[test]
    fn a_key_id_is_eight_hex_digits() {
        assert_eq!("0a1b2c3d".parse::<KeyId>().unwrap().to_string(), "0a1b2c3d");
        for bad in ["", "1", "0a1b2c3g", "+a1b2c3d", "0a1b2c3d0"] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            "Phi",
            "1phi",
            "phi/",
            "../x",
            "phi phi",
            &"a".repeat(41),
        ] {
            assert!(bad.parse::<KeyringName>().is_err(), "{bad}");
        }
        for bad in [
            "phi",
            "phi/",
            "phi/0",
            "phi/01",
            "phi/-1",
            "phi/+1",
            "phi/99999999999",
            "/3",
        ] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
    }
}
