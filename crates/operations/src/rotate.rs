//! Asking for a rotation, retrying one, and sending messages on people's behalf.

use std::time::Duration;

use rekey_domain::{KeyringName, Principal, RotationReason, RotationState};
use rekey_messages::{Event, Message, RotationDue, RotationRequested, route_of};
use rekey_store::{audit::Record, batches, dead_letters, keyrings, rotations};
use serde_json::json;
use uuid::Uuid;

use crate::{Action, OperationError, Services, authorise};

/// Where events of our own programs come from; the rest of such a source is who asked.
const OWN_SOURCES: &str = "/rekey/";

/// Asks for a rotation of a keyring; the rotator does the rest. Returns the id of the event.
///
/// # Errors
/// [`OperationError::Store`] names the keyrings there are.
pub async fn rotate(
    services: &Services,
    keyring: &KeyringName,
    reason: RotationReason,
    principal: &Principal,
) -> Result<String, OperationError> {
    authorise(principal, Action::Rotate)?;
    keyrings::by_name(services.store.db(), keyring).await?;
    let request = RotationRequested {
        keyring: keyring.clone(),
        reason,
    };
    let event = Event::of(
        &request,
        &format!("/rekey/{principal}"),
        services.clock.now(),
    );
    send(
        services,
        event,
        principal,
        "rotation.requested",
        keyring.as_str(),
    )
    .await
}

/// Publishes an event that came from outside. Only what people and systems may ask for is taken.
///
/// # Errors
/// [`OperationError::Refused`] for a malformed event or a type that is not a request.
pub async fn publish(
    services: &Services,
    bytes: &[u8],
    principal: &Principal,
) -> Result<String, OperationError> {
    let event = Event::parse(bytes).map_err(|error| OperationError::Refused(error.to_string()))?;
    if event.source.starts_with(OWN_SOURCES) {
        return Err(OperationError::Refused(format!(
            "sources under {OWN_SOURCES} are our own programs'; name the system that asks"
        )));
    }
    match event.type_.as_str() {
        RotationRequested::TYPE => {
            authorise(principal, Action::Rotate)?;
            let request: RotationRequested = event
                .message()
                .map_err(|error| OperationError::Refused(error.to_string()))?;
            keyrings::by_name(services.store.db(), &request.keyring).await?;
            send(
                services,
                event,
                principal,
                "rotation.requested",
                request.keyring.as_str(),
            )
            .await
        }
        other => Err(OperationError::Refused(format!(
            "events of type {other:?} are not taken from outside; {} is",
            RotationRequested::TYPE
        ))),
    }
}

async fn send(
    services: &Services,
    event: Event,
    principal: &Principal,
    action: &str,
    subject: &str,
) -> Result<String, OperationError> {
    let route = route_of(&event.type_).expect("requests are in the catalogue");
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    unit.send_event(&event, route, Duration::ZERO).await?;
    let details = json!({ "event": event.id, "source": event.source });
    pen.append(
        &unit,
        Record {
            action,
            subject,
            outcome: "done",
            details,
        },
    )
    .await?;
    unit.commit().await?;
    Ok(event.id)
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
    authorise(principal, Action::Rotate)?;
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    let rotation = rotations::by_id(unit.db(), id).await?;
    if rotation.state.0 != RotationState::Failed {
        return Err(OperationError::Refused(format!(
            "rotation {id} is {}, not FAILED",
            rotation.state.0
        )));
    }
    batches::replan_failed(&unit, &rotation).await?;
    let next = if rotation.pass == 0 {
        RotationState::ReEncrypting
    } else {
        RotationState::Verifying
    };
    rotations::change_state(&unit, &rotation, next, rotations::Changes::default()).await?;
    // Its plan is complete, so nobody else would dispatch what is planned again.
    let keyring = keyrings::by_id(unit.db(), rotation.keyring_id).await?;
    batches::dispatch(&unit, &rotation, keyring.policy.0.concurrency).await?;
    unit.send(&RotationDue { rotation: id }).await?;
    let subject = id.to_string();
    pen.append(
        &unit,
        Record {
            action: "rotation.retried",
            subject: &subject,
            outcome: "done",
            details: json!({}),
        },
    )
    .await?;
    Ok(unit.commit().await?)
}

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
    pen.append(
        &unit,
        Record {
            action: "dead-letter.retried",
            subject: &subject,
            outcome: "done",
            details: json!({}),
        },
    )
    .await?;
    Ok(unit.commit().await?)
}
