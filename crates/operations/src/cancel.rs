//! Cancelling a rotation: it stops where it is, and the next one takes the rest along.

use rekey_domain::{Principal, RotationState};
use rekey_store::{audit::Record, rotations};
use serde_json::json;
use uuid::Uuid;

use crate::{Action, OperationError, Services, authorise};

/// Ends a rotation that is under way or has failed. Nothing is taken back: before the switch the
/// standby stays the standby; after it the new key stays the primary, and rows under older ones stay
/// readable until the next rotation of the keyring moves them. A batch in flight ends, and no other
/// begins.
///
/// # Errors
/// [`OperationError::Refused`] without a reason, and for a rotation that is over.
pub async fn cancel_rotation(
    services: &Services,
    id: Uuid,
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::Rotate)?;
    let because = because.trim();
    if because.is_empty() {
        let why = "a rotation is cancelled for a reason; say it, it is audited";
        return Err(OperationError::Refused(why.to_owned()));
    }
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    let rotation = rotations::lock(&unit, id).await?;
    let state = rotation.state.0;
    if !state.may_become(RotationState::Cancelled) {
        return Err(OperationError::Refused(format!(
            "rotation {id} is {state}; only one that is under way or has failed is cancelled"
        )));
    }
    rotations::cancel(&unit, &rotation, because).await?;
    let subject = id.to_string();
    let record = Record {
        action: "rotation.cancelled",
        subject: &subject,
        outcome: "done",
        details: json!({ "because": because, "was": state }),
    };
    pen.append(&unit, record).await?;
    Ok(unit.commit().await?)
}
