//! What can be known of a master key from outside: its id and its state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterKeyState {
    /// Wraps and unwraps.
    Enabled,
    /// Does neither until it is enabled again.
    Disabled,
    /// Does neither, and will be gone unless its deletion is cancelled.
    PendingDeletion,
}

impl fmt::Display for MasterKeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending-deletion",
        })
    }
}

/// The master key that wraps new data keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyInfo {
    /// The provider's name for it.
    pub id: String,
    /// Its state.
    pub state: MasterKeyState,
    /// Who holds it: `local`, `aws`.
    pub provider: &'static str,
}
