//! What a rotation waits for: an open transaction, a lock, a database that is away. It is noted for people, and looked
//! at again.

use std::time::Duration;

use rekey_operations::OperationError;
use rekey_sources::SourceError;
use rekey_store::rotations;

use crate::advance::Advance;

/// How long it is left alone before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whether the error passes by itself and says nothing of the step, which is then tried until it is done.
pub fn is_for(error: &OperationError) -> bool {
    match error {
        OperationError::Source(error) => error.is_retryable(),
        error => error.is_outage(),
    }
}

/// Says what the rotation waits for, and looks again a little later.
pub async fn note(advance: &Advance<'_>, error: &OperationError) -> Result<(), OperationError> {
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::note_waiting(&unit, &advance.rotation, &error.to_string()).await?;
    if matches!(error, OperationError::Source(SourceError::FenceLost { .. })) {
        rotations::note_fences(&unit, &advance.rotation, None).await?;
    }
    unit.send_after(&advance.due(), LOOK_AGAIN).await?;
    tracing::warn!(rotation = %advance.rotation.id, %error, "the rotation waits");
    Ok(unit.commit().await?)
}
