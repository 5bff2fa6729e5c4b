//! What a person does with incidents and alerts: acknowledges them, and resolves incidents.

use rekey_domain::{IncidentState, Principal};
use rekey_store::{alerts, audit, incidents};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    access::audited::{Audited, reason},
    authorise,
};

/// Notes that somebody looks at an incident, so that nobody else has to find it.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id, or somebody does already.
pub async fn acknowledge_incident(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    let asked = Audited::begin(services, principal, Action::HandleIncident).await?;
    let incident = incidents::lock(&asked.unit, id).await?;
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
    let incident = incidents::lock(&asked.unit, id).await?;
    incidents::move_to(&asked.unit, &incident, IncidentState::Resolved, principal).await?;
    let action = audit::Action::IncidentResolved;
    asked
        .commit(action, &id.to_string(), json!({ "because": because }))
        .await
}

/// Says that somebody has seen an alert: it stands until its state has passed, and presses no more.
///
/// # Errors
/// [`OperationError::Store`] when none of this id is raised.
pub async fn acknowledge_alert(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::HandleIncident)?;
    let unit = services.store.begin().await?;
    alerts::acknowledge(&unit, id, principal).await?;
    Ok(unit.commit().await?)
}
