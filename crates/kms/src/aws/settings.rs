//! Which master key in AWS KMS, and how to get there.

use std::{fmt, str::FromStr};

use super::arn;

/// Which master key, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSettings {
    /// The master key.
    pub master_key: AwsMasterKey,
    /// Its region; none: that of its ARN, or the SDK's default chain.
    pub region: Option<String>,
    /// Where requests go, for emulators and private endpoints; none: AWS.
    pub endpoint_url: Option<String>,
}

/// A master key as it is configured: `alias/phi-master-key`, a key id, or the ARN of either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsMasterKey(String);

/// Text that names no master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected alias/…, a key id or the ARN of either, and no alias of AWS's own (alias/aws/…); found {found:?}"
)]
pub struct NotAwsMasterKey {
    /// What was found.
    pub found: String,
}

impl AwsMasterKey {
    /// As it was configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The alias, which can be pointed at another master key; none if an id or an ARN is configured.
    pub fn alias(&self) -> Option<&str> {
        self.0.starts_with("alias/").then_some(&*self.0)
    }

    /// The region that its ARN names.
    pub(super) fn region(&self) -> Option<&str> {
        arn::region(&self.0)
    }
}

impl FromStr for AwsMasterKey {
    type Err = NotAwsMasterKey;

    fn from_str(text: &str) -> Result<Self, NotAwsMasterKey> {
        let last = match text.strip_prefix("arn:") {
            // partition, service, region, account, then the key or the alias
            Some(rest) => rest.splitn(5, ':').nth(4).unwrap_or_default(),
            None => text,
        };
        let is_whole = match (last.split_once('/'), text == last) {
            (Some(("alias", name)), _) => !name.is_empty() && !name.starts_with("aws/"),
            (Some(("key", id)), false) => is_id(id),
            (None, true) => is_id(last),
            _ => false,
        };
        if is_whole && arn::is_name(text) && !last.contains(':') {
            return Ok(Self(text.to_owned()));
        }
        Err(NotAwsMasterKey {
            found: text.chars().take(100).collect(),
        })
    }
}

impl fmt::Display for AwsMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_named_in_four_ways() {
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        let home = "arn:aws:kms:eu-west-3:111122223333";
        for (text, has_alias) in [
            ("alias/phi-master-key".to_owned(), true),
            (id.to_owned(), false),
            ("mrk-1234abcd".to_owned(), false),
            (format!("{home}:key/{id}"), false),
            (format!("{home}:alias/phi/main"), false),
        ] {
            let key: AwsMasterKey = text.parse().unwrap();
            assert_eq!((key.as_str(), key.alias().is_some()), (&*text, has_alias));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "alias/",
            "alias/aws/kms",
            "key/1234",
            "alias/a b",
            "alias/a:b",
            "arn:aws:kms:eu-west-3:111122223333",
            "arn:aws:kms:eu-west-3:111122223333:key/",
            "arn:aws:kms:eu-west-3:111122223333:alias/aws/kms",
            "phi master key",
        ] {
            assert!(text.parse::<AwsMasterKey>().is_err(), "{text}");
        }
    }
}
