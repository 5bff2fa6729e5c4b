//! Associated data of the seals: what a bundle says in clear of its key, and of who opens it.

use rekey_domain::KeyId;
use uuid::Uuid;

use crate::{Fingerprint, Seal};

/// The first line; another format would get another line.
const HEADER: &str = "rekey bundle v1\n";

/// All that stands in clear but the bytes of the seals.
///
/// Those of the other seal are left out, so that damage to one does not keep the other from opening. The bundle's name
/// holds all bytes together, and a drill makes them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InClear {
    pub deployment: Uuid,
    pub key_id: KeyId,
    /// The BACKUP key that it is sealed under.
    pub backup: KeyId,
    /// The keyring, where the key is wrapped by the master key.
    pub master: Option<Uuid>,
    /// The RECOVERY key that it is sealed to.
    pub recovery: Option<Fingerprint>,
}

impl InClear {
    /// What `seal` is bound to: lines of `name=value`.
    pub(crate) fn associated_data(&self, seal: Seal) -> Vec<u8> {
        let none = || "none".to_owned();
        let lines = [
            ("seal", seal.to_string()),
            ("deployment", self.deployment.to_string()),
            ("key_id", self.key_id.to_string()),
            ("backup", self.backup.to_string()),
            (
                "master",
                self.master.map_or_else(none, |keyring| keyring.to_string()),
            ),
            (
                "recovery",
                self.recovery.map_or_else(none, |key| key.to_string()),
            ),
        ];
        let mut text = HEADER.to_owned();
        for (name, value) in lines {
            // No value can hold a '=' or a line break: they are letters, hex digits and hyphens.
            text.extend([name, "=", &value, "\n"]);
        }
        text.into_bytes()
    }
}
