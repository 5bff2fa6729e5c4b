//! The name of a destination: a place that keeps bundles.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const LONGEST: usize = 40;

/// A destination's name, which stands in alerts and on certificates: 1 to 40 of a-z, 0-9 and '-'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DestinationName(String);

impl DestinationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DestinationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST).contains(&text.len());
        let readable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if fits && text.chars().all(readable) {
            return Ok(Self(text.to_owned()));
        }
        let found: String = text.chars().take(LONGEST + 1).collect();
        Err(format!(
            "destination name {found:?}: expected 1 to {LONGEST} of a-z, 0-9 and '-'"
        ))
    }
}

impl TryFrom<String> for DestinationName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DestinationName> for String {
    fn from(name: DestinationName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let long = "a".repeat(41);
        for name in ["", "A", "a b", "a/b", "..", "ä", "a\n", &long] {
            assert!(name.parse::<DestinationName>().is_err(), "{name:?}");
        }
        let name = "vault-2".parse::<DestinationName>().unwrap();
        assert_eq!(name.as_str(), "vault-2");
    }
}
