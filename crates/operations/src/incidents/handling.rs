//! What a person does with an incident: takes it up, and says that it is over.

use rekey_domain::{IncidentState, Principal};
use rekey_store::{audit, incidents};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    access::audited::{Audited, reason},
};

/// Says that somebody looks at an incident: it is nobody else's to find any more.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id, or somebody does already.
pub async fn acknowledge_incident(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::HandleIncident).await?;
    let incident = incidents::by_id(asked.unit.db(), id).await?;
    incidents::move_to(
        &asked.unit,
        &incident,
        IncidentState::Acknowledged,
        principal,
    )
    .await?;
    let action = audit::Action::IncidentAcknowledged;
    asked.commit(action, &id.to_string(), json!({})).await
}

/// Says that an incident is over. Nothing of what it led to is taken back: the key stays compromised.
///
/// # Errors
/// [`OperationError::Refused`] without a reason; [`OperationError::Store`] when there is none of this id, or it is over.
pub async fn resolve_incident(
    services: &Services,
    id: Uuid,
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    let because = reason(because, "an incident is resolved")?;
    let asked = Audited::begin(services, principal, Action::HandleIncident).await?;
    let incident = incidents::by_id(asked.unit.db(), id).await?;
    incidents::move_to(&asked.unit, &incident, IncidentState::Resolved, principal).await?;
    let action = audit::Action::IncidentResolved;
    asked
        .commit(action, &id.to_string(), json!({ "because": because }))
        .await
}
