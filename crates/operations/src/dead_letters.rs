//! What a person does with a message that was given up: sends it again, or is done with it.

use rekey_domain::Principal;
use rekey_store::{audit::Record, dead_letters};
use serde_json::json;
use uuid::Uuid;

use crate::{Action, OperationError, Services, authorise};

/// Sends a dead letter again.
///
/// # Errors
/// [`OperationError::Store`] when there is no such letter or it cannot be sent.
pub async fn retry_dead_letter(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::RetryDeadLetter)?;
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    dead_letters::retry(&unit, id).await?;
    let subject = id.to_string();
    let record = Record {
        action: "dead-letter.retried",
        subject: &subject,
        outcome: "done",
        details: json!({}),
    };
    pen.append(&unit, record).await?;
    Ok(unit.commit().await?)
}

/// Is done with a dead letter that is not to be sent again, such as a request from outside. Nothing
/// waits for a person any more; why is in the audit log.
///
/// # Errors
/// [`OperationError::Refused`] for no reason, [`OperationError::Store`] when there is no such letter or
/// it was sent again or dismissed.
pub async fn dismiss_dead_letter(
    services: &Services,
    id: Uuid,
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::DismissDeadLetter)?;
    let because = because.trim();
    if because.is_empty() {
        let why = "a dead letter is dismissed for a reason, which goes into the audit log";
        return Err(OperationError::Refused(why.to_owned()));
    }
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    let letter = dead_letters::dismiss(&unit, id).await?;
    let subject = id.to_string();
    let details = json!({ "because": because, "queue": letter.queue, "type": letter.type_ });
    let record = Record {
        action: "dead-letter.dismissed",
        subject: &subject,
        outcome: "done",
        details,
    };
    pen.append(&unit, record).await?;
    Ok(unit.commit().await?)
}
