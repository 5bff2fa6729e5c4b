//! Requests from the message broker: admitted as events of ours, or refused and audited.

use rekey_domain::Principal;
use rekey_messages::Event;
use rekey_store::{StoreError, audit::Record};
use serde_json::json;

use crate::{OperationError, Requester, Services, publish};

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
    audit(services, amqp_user, &refused).await?;
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

/// Whether asking again would be answered the same.
fn is_answer(error: &OperationError) -> bool {
    matches!(
        error,
        OperationError::Refused(_)
            | OperationError::NotAllowed { .. }
            | OperationError::Store(StoreError::Unknown { .. } | StoreError::Refused(_))
    )
}

/// The entry names the broker's user and the reason, and quotes nothing of what was sent.
async fn audit(
    services: &Services,
    amqp_user: Option<&str>,
    reason: &str,
) -> Result<(), OperationError> {
    let pen = services.pen(&Principal::worker("rotator")).await?;
    let unit = services.store.begin().await?;
    pen.append(
        &unit,
        Record {
            action: "request.refused",
            subject: amqp_user.unwrap_or("nobody"),
            outcome: "refused",
            details: json!({ "reason": reason, "amqp_user": amqp_user }),
        },
    )
    .await?;
    Ok(unit.commit().await?)
}
