//! Events from outside: a rotation, a report of a compromised key, or backups are asked for in somebody's name.

use rekey_domain::{Principal, RotationReason};
use rekey_messages::{
    BackupRequested, CATALOGUE, Event, EventError, KeyCompromised, Message, RotationRequested,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    Action, OperationError, Report, Services, authorise,
    backups::request::take_backup_request,
    incidents::compromise::take_report,
    rotations::{
        canary,
        rotate::{SOURCE, send},
    },
};

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
    let asked = Event::parse(bytes).map_err(refused)?;
    let id = id_of(&asked, principal).to_string();
    match asked.type_.as_str() {
        RotationRequested::TYPE => rotation(services, asked, &id, principal).await?,
        KeyCompromised::TYPE => {
            authorise(principal, Action::ReportCompromise)?;
            let told: KeyCompromised = asked.message().map_err(refused)?;
            let report = Report {
                key: told.key,
                reason: told.reason,
                since: told.since,
            };
            take_report(services, &report, &seen(asked, &id), principal).await?;
        }
        BackupRequested::TYPE => {
            authorise(principal, Action::RequestBackup)?;
            let BackupRequested { key } = asked.message().map_err(refused)?;
            let seen = seen(asked, &id);
            take_backup_request(services, key.as_ref(), Some(&seen), principal).await?;
        }
        _ => return Err(OperationError::Refused(none_of_these())),
    }
    Ok(id)
}

fn none_of_these() -> String {
    let outside = CATALOGUE.iter().filter(|entry| entry.from_outside);
    let types: Vec<_> = outside.map(|entry| entry.name).collect();
    format!(
        "events of this type are not taken from outside; {} are",
        types.join(", ")
    )
}

async fn rotation(
    services: &Services,
    asked: Event,
    id: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::Rotate)?;
    let mut request: RotationRequested = asked.message().map_err(refused)?;
    // Schedule, expiry and use are what Rekey finds itself, and certificates say so.
    request.reason = RotationReason::Request;
    canary::check(services, &request).await?;
    let now = services.store.now().await?;
    let mut event = Event::of(&request, SOURCE, now).asked_by(principal);
    id.clone_into(&mut event.id);
    event.traceparent = asked.traceparent.filter(|trace| is_traceparent(trace));
    let details = json!({ "event": id, "asked": { "id": asked.id, "source": asked.source }, "urgent": request.urgent });
    send(services, &event, principal, &request.keyring, details).await
}

fn refused(error: EventError) -> OperationError {
    OperationError::Refused(error.to_string())
}

/// The event by its id alone: its content is removed before anything is stored.
fn seen(mut asked: Event, id: &str) -> Event {
    id.clone_into(&mut asked.id);
    asked.data = Value::Null;
    asked
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
