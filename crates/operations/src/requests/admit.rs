//! Requests from the message broker: admitted as events of ours, or refused and audited.

use rekey_domain::{AT_ONCE, EVERY, Principal, format_duration};
use rekey_envelope::encode_base64;
use rekey_messages::{Event, KeyCompromised, Message};
use rekey_store::{
    StoreError,
    audit::{self, Record},
    inbox,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{OperationError, Requester, Services, publish};

/// Marks in the inbox that a refusal was written down.
const REFUSED: &str = "operations.refused";
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
    let event = Event::parse(body).ok();
    let is_report = event.is_some_and(|event| event.type_ == KeyCompromised::TYPE);
    // Not with the reason, which may tell the time of the look.
    let copy = encode_base64(&Sha256::digest(body));
    let noted = if is_report {
        Noted::Once(&copy)
    } else {
        Noted::Many(1)
    };
    audit(services, amqp_user, &refused, noted).await?;
    Ok(Admission::Refused(refused))
}

/// What an entry of the audit log is about.
enum Noted<'a> {
    /// A message that comes from two queues, and is noted once.
    Once(&'a str),
    /// So many messages.
    Many(u64),
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
    audit(services, amqp_user, &reason, Noted::Many(requests)).await
}

/// The entry names the broker's user and the reason, and quotes nothing of what was sent.
async fn audit(
    services: &Services,
    amqp_user: Option<&str>,
    reason: &str,
    noted: Noted<'_>,
) -> Result<(), OperationError> {
    let pen = services.pen(&Principal::worker("rotator")).await?;
    let unit = services.store.begin().await?;
    let sender = amqp_user.unwrap_or("nobody");
    let requests = match noted {
        Noted::Once(copy) if !inbox::first_copy(&unit, sender, copy, REFUSED).await? => {
            return Ok(());
        }
        Noted::Once(_) => 1,
        Noted::Many(requests) => requests,
    };
    pen.append(
        &unit,
        Record {
            action: audit::Action::RequestRefused,
            subject: sender,
            outcome: "refused",
            details: json!({ "reason": reason, "amqp_user": amqp_user, "requests": requests }),
        },
    )
    .await?;
    Ok(unit.commit().await?)
}
