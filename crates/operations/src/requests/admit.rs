//! Requests from the message broker: admitted as events of ours, or refused and audited.

use rekey_domain::{AT_ONCE, EVERY, Principal, format_duration};
use rekey_messages::Event;
use rekey_store::{
    StoreError,
    audit::{self, Record},
};
use serde_json::json;

use crate::{OperationError, Requester, Services, publish};

/// The most requests that a process holds at once, waiting or next. Each is at most as long as an event may be.
pub const REQUESTS_HELD: u16 = 500;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It goes on as the event of this id.
    Admitted(String),
    /// Nothing is done; why is in the audit log.
    Refused(String),
}

/// Admits a request that `amqp_user` published, as the broker vouches, or refuses it.
///
/// # Errors
/// [`OperationError`] where neither could be done for now, such as when no audit entry can be written; the request
/// is to come again.
pub async fn admit(
    services: &Services,
    requesters: &[Requester],
    amqp_user: Option<&str>,
    body: &[u8],
) -> Result<Admission, OperationError> {
    let refused = match ask(services, requesters, amqp_user, body).await {
        Ok(event) => return Ok(Admission::Admitted(event)),
        Err(error) if is_answer(&error) => error.to_string(),
        Err(error) => return Err(error),
    };
    audit(services, amqp_user, &refused, 1).await?;
    Ok(Admission::Refused(refused))
}

async fn ask(
    services: &Services,
    requesters: &[Requester],
    amqp_user: Option<&str>,
    body: &[u8],
) -> Result<String, OperationError> {
    let requester = Requester::find(requesters, amqp_user)?;
    let event = Event::parse(body).map_err(|error| OperationError::Refused(error.to_string()))?;
    requester.authorise(&event.type_)?;
    publish(services, body, &requester.principal).await
}

/// Whether the request itself is wrong, so that asking again would get the same answer. Errors of the store, the KMS or
/// a source are no answer: the request waits until they pass or a person mends them.
fn is_answer(error: &OperationError) -> bool {
    match error {
        OperationError::Store(error) => {
            matches!(error, StoreError::Unknown { .. } | StoreError::Refused(_))
        }
        OperationError::Kms(_)
        | OperationError::Client(_)
        | OperationError::Source(_)
        | OperationError::Broker(_) => false,
        _ => true,
    }
}

/// Notes that requests were turned away unread, as their sender sends more than anybody's share.
///
/// # Errors
/// [`OperationError`] where no audit entry can be written for now.
pub async fn turned_away(
    services: &Services,
    amqp_user: Option<&str>,
    requests: u64,
) -> Result<(), OperationError> {
    let reason = format!(
        "turned away unread: of one user, {AT_ONCE} requests at once are read, then one every {}",
        format_duration(EVERY)
    );
    audit(services, amqp_user, &reason, requests).await
}

/// The entry names the broker's user and the reason, and quotes nothing of what was sent.
async fn audit(
    services: &Services,
    amqp_user: Option<&str>,
    reason: &str,
    requests: u64,
) -> Result<(), OperationError> {
    let pen = services.pen(&Principal::worker("rotator")).await?;
    let unit = services.store.begin().await?;
    pen.append(
        &unit,
        Record {
            action: audit::Action::RequestRefused,
            subject: amqp_user.unwrap_or("nobody"),
            outcome: "refused",
            details: json!({ "reason": reason, "amqp_user": amqp_user, "requests": requests }),
        },
    )
    .await?;
    Ok(unit.commit().await?)
}
