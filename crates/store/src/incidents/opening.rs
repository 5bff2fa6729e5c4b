//! Opening an incident.

use chrono::{DateTime, Utc};
use rekey_domain::{IncidentKind, IncidentState, KeyId, Principal};
use rekey_messages::IncidentOpened;
use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::{Id, Json, Text},
    incidents::{Exposure, Incident, entities::incident},
};

/// What is known of an incident when it is opened.
#[derive(Debug, Clone)]
pub struct NewIncident {
    /// Its id, which the rotation names that it leads to.
    pub id: Uuid,
    /// What happened.
    pub kind: IncidentKind,
    /// The keyring.
    pub keyring: Uuid,
    /// The key.
    pub key: KeyId,
    /// Since when others know the key, as far as it was said.
    pub since: Option<DateTime<Utc>>,
    /// What is known to stand under the key.
    pub exposure: Option<Exposure>,
    /// Why nobody can read what the report said.
    pub withheld: Option<String>,
}

/// Opens an incident, reported by `principal`.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open(
    unit: &Unit,
    new: NewIncident,
    principal: &Principal,
) -> Result<Incident, StoreError> {
    let row = incident::ActiveModel {
        id: Set(new.id),
        kind: Set(Text(new.kind)),
        state: Set(Text(IncidentState::Open)),
        keyring_id: Set(new.keyring),
        key_id: Set(Id(new.key)),
        rotation_id: Set(None),
        reported_by: Set(Text(principal.clone())),
        opened_at: Set(unit.now()),
        acted_at: Set(None),
        machine_acted_at: Set(None),
        since: Set(new.since),
        exposure: Set(new.exposure.map(Json)),
        withheld: Set(new.withheld),
        acknowledged_by: Set(None),
        acknowledged_at: Set(None),
        resolved_by: Set(None),
        resolved_at: Set(None),
    };
    let opened: Incident = row.insert(unit.db()).await?.into();
    let fact = IncidentOpened {
        incident: opened.id,
        kind: opened.kind.to_string(),
    };
    unit.send(&fact).await?;
    Ok(opened)
}
