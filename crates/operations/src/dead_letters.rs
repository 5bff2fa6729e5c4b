//! What a person does with a message that was given up: sends it again, or is done with it.

use rekey_domain::Principal;
use rekey_store::dead_letters;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    audited::{Audited, reason},
};

/// Sends a dead letter again.
///
/// # Errors
/// [`OperationError::Store`] when there is no such letter or it cannot be sent.
pub async fn retry_dead_letter(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::RetryDeadLetter).await?;
    dead_letters::retry(&asked.unit, id).await?;
    asked
        .commit("dead-letter.retried", &id.to_string(), json!({}))
        .await
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
    let because = reason(because, "a dead letter is dismissed")?;
    let asked = Audited::begin(services, principal, Action::DismissDeadLetter).await?;
    let letter = dead_letters::dismiss(&asked.unit, id).await?;
    let details = json!({ "because": because, "queue": letter.queue, "type": letter.type_ });
    asked
        .commit("dead-letter.dismissed", &id.to_string(), details)
        .await
}
