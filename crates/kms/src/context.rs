//! The encryption context: what a wrapped key is bound to, so that a swapped one is found.

use rekey_domain::{KeyId, Purpose};
use uuid::Uuid;

/// The first line of the canonical form; another form would get another line.
const HEADER: &str = "rekey encryption context v1\n";

/// Whose key a wrapped key is. A KMS authenticates it, and logs it in clear: it holds ids only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptionContext {
    /// The deployment of Rekey, so that a key of the test system does not open in production.
    pub deployment: Uuid,
    /// The keyring's id, not its name, which may tell what is protected.
    pub keyring: Uuid,
    /// The key.
    pub key_id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
}

impl EncryptionContext {
    /// The context as names and values, in the order of the canonical form.
    pub fn pairs(&self) -> [(&'static str, String); 4] {
        [
            ("deployment", self.deployment.to_string()),
            ("keyring", self.keyring.to_string()),
            ("key_id", self.key_id.to_string()),
            ("purpose", self.purpose.to_string()),
        ]
    }

    /// The canonical form, for providers that authenticate bytes: a header, then `name=value` lines.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = HEADER.to_owned();
        for (name, value) in self.pairs() {
            // No value can hold a '=' or a line break: they are hex, hyphens and capital letters.
            text.extend([name, "=", &value, "\n"]);
        }
        text.into_bytes()
    }
}
