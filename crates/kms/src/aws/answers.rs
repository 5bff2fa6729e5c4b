//! AWS KMS describes a master key; this reads the description.

use aws_sdk_kms::types::{KeyMetadata, KeyState};

use super::errors::{self, PROVIDER};
use crate::{KmsError, MasterKeyInfo, MasterKeyState};

/// What AWS says of a master key.
pub(super) fn info(metadata: Option<KeyMetadata>) -> Result<MasterKeyInfo, KmsError> {
    let metadata = metadata.ok_or_else(errors::malformed)?;
    let state = match metadata.key_state {
        // While it is updated, a multi-Region key goes on to wrap and unwrap.
        Some(KeyState::Enabled | KeyState::Updating) => MasterKeyState::Enabled,
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
            MasterKeyState::PendingDeletion
        }
        _ => MasterKeyState::Disabled,
    };
    Ok(MasterKeyInfo {
        id: metadata.arn.ok_or_else(errors::malformed)?,
        state,
        provider: PROVIDER,
    })
}
