//! So many values under keys that this store never had that there is one cause: a person looks before they are left behind.

use rekey_operations::{CensusRow, OperationError, unknown_keys};
use rekey_store::{audit::Record, rotations};
use serde_json::json;

use crate::advance::Advance;

/// Whether what was counted before the first batch puts the rotation on hold. One that hurries goes on: its
/// key is known to others, and every value that can be moved has to be.
pub async fn hold(advance: &Advance<'_>, counted: &[CensusRow]) -> Result<bool, OperationError> {
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
    pause(advance, &why).await?;
    Ok(true)
}

async fn pause(advance: &Advance<'_>, why: &str) -> Result<(), OperationError> {
    let pen = advance.services.pen(&crate::principal()).await?;
    let Some(unit) = advance.begin().await? else {
        return Ok(());
    };
    rotations::pause_for_unknown_keys(&unit, &advance.rotation, why).await?;
    let subject = advance.rotation.id.to_string();
    let record = Record {
        action: "rotation.paused",
        subject: &subject,
        outcome: "done",
        details: json!({ "because": why }),
    };
    pen.append(&unit, record).await?;
    unit.commit().await?;
    tracing::error!(rotation = subject, why, "paused");
    Ok(())
}
