//! So many values under keys that this store never had that there is one cause: a person looks before they are left behind.

use rekey_operations::{CensusRow, OperationError, unknown_keys};
use rekey_store::rotations::Cause;

use crate::{advance::Advance, steps};

/// Whether what was counted before the first batch puts the rotation on hold. One that hurries goes on: its
/// key is known to others, and every value that can be moved has to be.
pub async fn pause(advance: &Advance<'_>, counted: &[CensusRow]) -> Result<bool, OperationError> {
    if advance.rotation.unknown_keys_accepted == Some(true) {
        return Ok(false);
    }
    let Some(why) = unknown_keys(advance.services, counted).await? else {
        return Ok(false);
    };
    if advance.rotation.urgent {
        tracing::error!(rotation = %advance.rotation.id, why, "the rotation goes on, as it is urgent");
        return Ok(false);
    }
    steps::pause(advance, Cause::UnknownKeys, &why).await?;
    Ok(true)
}
