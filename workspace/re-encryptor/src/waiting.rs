//! What a batch waits for: a lock, a database or a KMS that is away. Noted for people; it costs no attempt.

use std::time::Duration;

use rekey_operations::{OperationError, Services};
use rekey_sources::SourceError;
use rekey_store::{
    StoreError,
    batches::{self, Batch, Wait},
};

/// How long the batch is left alone before it is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Whether the error passes by itself and says nothing of the batch, which is then tried until it is done.
pub fn is_for(error: &OperationError) -> bool {
    matches!(error, OperationError::Source(SourceError::Busy { .. })) || error.is_outage()
}

/// Says what the batch waits for.
pub async fn note(
    services: &Services,
    batch: &Batch,
    error: &OperationError,
) -> Result<(), StoreError> {
    tracing::warn!(batch = %batch.id, %error, "the batch waits");
    let unit = services.store.begin_forgettable().await?;
    let wait = Wait::Missing(error.to_string());
    batches::set_waiting(&unit, batch, Some(wait), TRY_AGAIN).await?;
    unit.commit().await
}
