//! Asking for a rotation, retrying one, and sending messages on people's behalf.

use std::time::Duration;

use rekey_domain::{KeyringName, Principal, RotationReason, RotationState};
use rekey_messages::{Event, KeyCompromised, Message, RotationDue, RotationRequested, route_of};
use rekey_store::{audit, batches, inbox, keyrings, rotations};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    Action, Dispatch, OperationError, Report, Services, access::audited::Audited, authorise,
    incidents::compromise::take_report, rotations::canary,
};

/// Where events of our own programs come from.
const SOURCE: &str = "/rekey";
/// Marks in the inbox that an event from outside was taken.
const PUBLISH: &str = "operations.publish";

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

/// Publishes an event that came from outside, as one of ours: `id` and `source` are new, so that nobody can pass for
/// one of our programs, and who asked is `principal`, whatever the event says. Only what people and systems may ask
/// for is taken, and of the same event of the same principal only the first. Returns the id of our event.
///
/// # Errors
/// [`OperationError::Refused`] for a malformed event or a type that is not a request.
pub async fn publish(
    services: &Services,
    bytes: &[u8],
    principal: &Principal,
) -> Result<String, OperationError> {
    let asked = Event::parse(bytes).map_err(|error| OperationError::Refused(error.to_string()))?;
    match asked.type_.as_str() {
        RotationRequested::TYPE => {
            authorise(principal, Action::Rotate)?;
            let mut request: RotationRequested = asked
                .message()
                .map_err(|error| OperationError::Refused(error.to_string()))?;
            // Schedule, expiry and use are what Rekey finds itself, and certificates say so.
            request.reason = RotationReason::Request;
            canary::check(services, &request).await?;
            let now = services.store.now().await?;
            let mut event = Event::of(&request, SOURCE, now).asked_by(principal);
            event.id = id_of(&asked, principal).to_string();
            event.traceparent = asked.traceparent.filter(|trace| is_traceparent(trace));
            let details = json!({ "event": event.id, "asked": { "id": asked.id, "source": asked.source }, "urgent": request.urgent });
            send(services, &event, principal, &request.keyring, details).await?;
            Ok(event.id)
        }
        KeyCompromised::TYPE => {
            authorise(principal, Action::ReportCompromise)?;
            let told: KeyCompromised = asked
                .message()
                .map_err(|error| OperationError::Refused(error.to_string()))?;
            let report = Report {
                key: told.key,
                reason: told.reason,
                since: told.since,
            };
            // The event by its id alone: the report's content is removed before anything is stored.
            let mut seen = asked;
            seen.id = id_of(&seen, principal).to_string();
            seen.data = Value::Null;
            take_report(services, &report, &seen, principal).await?;
            Ok(seen.id)
        }
        _ => Err(OperationError::Refused(format!(
            "events of this type are not taken from outside; {} and {} are",
            RotationRequested::TYPE,
            KeyCompromised::TYPE
        ))),
    }
}

/// Whether it has the form of W3C trace context: four groups of hexadecimal digits.
fn is_traceparent(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    let digits = text
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    digits && groups == [2, 32, 16, 2]
}

/// An id that the same event of the same principal always gets, and no other event.
fn id_of(asked: &Event, principal: &Principal) -> Uuid {
    let mut hash = Sha256::new();
    for part in [&principal.to_string(), &asked.source, &asked.id] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (id, _) = hash.split_first_chunk().expect("it is longer than an id");
    uuid::Builder::from_random_bytes(*id).into_uuid()
}

async fn send(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_taken_over_as_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "00",
            "123-45-6789",
            &good.replace('4', "x"),
            &format!("{good}-01"),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
