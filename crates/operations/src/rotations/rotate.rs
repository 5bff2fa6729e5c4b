//! Asking for a rotation, and retrying one.

use std::time::Duration;

use rekey_domain::{KeyringName, Principal, RotationReason, RotationState};
use rekey_messages::{Event, RotationDue, RotationRequested, route_of};
use rekey_store::{audit, batches, inbox, keyrings, rotations};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Action, Dispatch, OperationError, Services, access::audited::Audited, authorise,
    rotations::canary,
};

/// Where events of our own programs come from.
pub(crate) const SOURCE: &str = "/rekey";
/// Marks in the inbox that an event from outside was taken.
pub(crate) const PUBLISH: &str = "operations.publish";

/// Asks for a rotation of a keyring that is not urgent; see [`request_rotation`].
///
/// # Errors
/// As [`request_rotation`].
pub async fn rotate(
    services: &Services,
    keyring: &KeyringName,
    reason: RotationReason,
    principal: &Principal,
) -> Result<String, OperationError> {
    let request = RotationRequested::of_all(keyring.clone(), reason);
    request_rotation(services, &request, principal).await
}

/// Asks for a rotation, urgent or a canary perhaps; the rotator does the rest. Returns the id of the
/// event.
///
/// # Errors
/// [`OperationError::Store`] names the keyrings there are, [`OperationError::Configuration`] the
/// columns; [`OperationError::Refused`] for a canary where a rotation of all rows is under way.
pub async fn request_rotation(
    services: &Services,
    request: &RotationRequested,
    principal: &Principal,
) -> Result<String, OperationError> {
    authorise(principal, Action::Rotate)?;
    canary::check(services, request).await?;
    let now = services.store.now().await?;
    let event = Event::of(request, SOURCE, now).asked_by(principal);
    let RotationRequested { urgent, canary, .. } = request;
    let details = json!({ "event": event.id, "urgent": urgent, "canary": canary });
    send(services, &event, principal, &request.keyring, details).await?;
    Ok(event.id)
}

/// Sends a request to the rotators, once for each event.
pub(crate) async fn send(
    services: &Services,
    event: &Event,
    principal: &Principal,
    keyring: &KeyringName,
    details: Value,
) -> Result<(), OperationError> {
    let route = route_of(event).expect("requests are in the catalogue");
    let asked = Audited::begin(services, principal, Action::Rotate).await?;
    if !inbox::first_sight(&asked.unit, event, PUBLISH).await? {
        return Ok(());
    }
    asked.unit.send_event(event, route, Duration::ZERO).await?;
    asked
        .commit(audit::Action::RotationRequested, keyring.as_str(), details)
        .await
}

/// Queues the failed batches of a rotation again.
///
/// # Errors
/// [`OperationError::Refused`] for a rotation that has not failed.
pub async fn retry_rotation(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::RetryRotation)?;
    let db = services.store.db();
    let seen = rotations::by_id(db, id).await?;
    let keyring = keyrings::by_id(db, seen.keyring_id).await?;
    let dispatch = Dispatch::of(services, &seen, &keyring.policy, principal).await?;
    let asked = Audited::begin(services, principal, Action::RetryRotation).await?;
    let unit = &asked.unit;
    let rotation = rotations::lock(unit, id).await?;
    if rotation.state != RotationState::Failed {
        return Err(OperationError::Refused(format!(
            "rotation {id} is {}, not FAILED",
            rotation.state
        )));
    }
    batches::replan_failed(unit, &rotation).await?;
    rotations::retry(unit, &rotation).await?;
    // Its plan is complete, so nobody else would dispatch what is planned again.
    let live = rotations::lock(unit, id).await?;
    dispatch.run(unit, &live).await?;
    unit.send(&RotationDue { rotation: id }).await?;
    asked
        .commit(audit::Action::RotationRetried, &id.to_string(), json!({}))
        .await
}
