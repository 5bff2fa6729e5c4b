//! What a person does with a message that was given up: sends it again, or is done with it.

use rekey_domain::Principal;
use rekey_store::{
    audit,
    dead_letters::{self, DeadLetter},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    access::audited::{Audited, reason, several},
    authorise,
};

/// Those that wait for a person.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn open_dead_letters(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<DeadLetter>, OperationError> {
    authorise(principal, Action::ReadDeadLetters)?;
    Ok(dead_letters::open(services.store.db()).await?)
}

/// Sends dead letters again: all of them, or none where one cannot be.
///
/// # Errors
/// [`OperationError::Store`] when there is no such letter or it cannot be sent.
pub async fn retry_dead_letters(
    services: &Services,
    ids: &[Uuid],
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::RetryDeadLetter).await?;
    for id in ids {
        dead_letters::retry(&asked.unit, *id).await?;
    }
    let details = json!({ "ids": ids });
    asked
        .commit(
            audit::Action::DeadLetterRetried,
            &several(ids, "dead letters"),
            details,
        )
        .await
}

/// Dismisses dead letters that are not to be sent again, such as requests from outside. They no longer wait for a
/// person; the reason is in the audit log.
///
/// # Errors
/// [`OperationError::Refused`] without a reason, [`OperationError::Store`] if a letter does not exist, or was sent
/// again or dismissed; then none is dismissed.
pub async fn dismiss_dead_letters(
    services: &Services,
    ids: &[Uuid],
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    let because = reason(because, "a dead letter is dismissed")?;
    let asked = Audited::begin(services, principal, Action::DismissDeadLetter).await?;
    let mut letters = Vec::new();
    for id in ids {
        let letter = dead_letters::dismiss(&asked.unit, *id).await?;
        letters.push(json!({ "id": id, "queue": letter.queue, "type": letter.type_ }));
    }
    let details = json!({ "because": because, "letters": letters });
    asked
        .commit(
            audit::Action::DeadLetterDismissed,
            &several(ids, "dead letters"),
            details,
        )
        .await
}
