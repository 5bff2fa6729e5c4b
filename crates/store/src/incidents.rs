//! Incidents: opened in the unit of what happened, taken up and resolved by people.

pub mod alerts;
pub mod emptied;
pub(crate) mod entities;
mod exposure;
mod opening;

use chrono::{DateTime, Utc};
use rekey_domain::{IncidentKind, IncidentState, KeyId, KeyState, Principal};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockType, Query},
};
use uuid::Uuid;

pub use crate::incidents::exposure::Exposure;
pub use crate::incidents::opening::{NewIncident, open};
use crate::{
    StoreError, Unit,
    database::stored::{Id, Json, Text},
    incidents::entities::incident,
    keys::entities::key,
};

/// A thing that happened. Why it was reported is sealed in the audit log, in the entries whose subject is its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its id.
    pub id: Uuid,
    /// What happened.
    pub kind: IncidentKind,
    /// How far people have come with it.
    pub state: IncidentState,
    /// The keyring.
    pub keyring_id: Uuid,
    /// The key.
    pub key_id: KeyId,
    /// The rotation that moves what stood under the key.
    pub rotation_id: Option<Uuid>,
    /// Who reported it first.
    pub reported_by: Principal,
    /// When, by the store's clock.
    pub opened_at: DateTime<Utc>,
    /// Since when the key is held to be known to others, as reporters said.
    pub since: Option<DateTime<Utc>>,
    /// What was last known to stand under the key, when it was reported.
    pub exposure: Option<Exposure>,
    /// Why nobody can read what the report said.
    pub withheld: Option<String>,
    /// Who took it up, and when.
    pub acknowledged: Option<(Principal, DateTime<Utc>)>,
    /// Who said that it is over, and when.
    pub resolved: Option<(Principal, DateTime<Utc>)>,
}

impl From<incident::Model> for Incident {
    fn from(row: incident::Model) -> Self {
        let by = |who: Option<Text<Principal>>, at| who.map(|Text(who)| who).zip(at);
        Self {
            id: row.id,
            kind: row.kind.0,
            state: row.state.0,
            keyring_id: row.keyring_id,
            key_id: row.key_id.0,
            rotation_id: row.rotation_id,
            reported_by: row.reported_by.0,
            opened_at: row.opened_at,
            since: row.since,
            exposure: row.exposure.map(|Json(exposure)| exposure),
            withheld: row.withheld,
            acknowledged: by(row.acknowledged_by, row.acknowledged_at),
            resolved: by(row.resolved_by, row.resolved_at),
        }
    }
}

/// Every incident, latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Incident>, StoreError> {
    let incidents = incident::Entity::find().order_by_desc(incident::Column::Id);
    let incidents = incidents.all(db).await?;
    Ok(incidents.into_iter().map(Incident::from).collect())
}

/// The incident of this id.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Incident, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("incident {id}"),
        known: Vec::new(),
    };
    let found = incident::Entity::find_by_id(id).one(db).await?;
    found.map(Incident::from).ok_or_else(unknown)
}

/// The incidents of a key, first one first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_key(db: &impl ConnectionTrait, key: KeyId) -> Result<Vec<Incident>, StoreError> {
    let incidents = incident::Entity::find()
        .filter(incident::Column::KeyId.eq(Id(key)))
        .order_by_asc(incident::Column::Id);
    let incidents = incidents.all(db).await?;
    Ok(incidents.into_iter().map(Incident::from).collect())
}

/// The incidents whose rows a rotation moves, first one first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_rotation(
    db: &impl ConnectionTrait,
    rotation: Uuid,
) -> Result<Vec<Incident>, StoreError> {
    let incidents = incident::Entity::find()
        .filter(incident::Column::RotationId.eq(rotation))
        .order_by_asc(incident::Column::Id);
    let incidents = incidents.all(db).await?;
    Ok(incidents.into_iter().map(Incident::from).collect())
}

/// The latest incident of a key, if it ever had one.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn latest_of_key(
    db: &impl ConnectionTrait,
    key: KeyId,
) -> Result<Option<Uuid>, StoreError> {
    let latest = incident::Entity::find()
        .select_only()
        .column(incident::Column::Id)
        .filter(incident::Column::KeyId.eq(Id(key)))
        .order_by_desc(incident::Column::Id);
    Ok(latest.into_tuple().one(db).await?)
}

/// Whether, since then, a report by a user of the broker had a key of the keyring replaced, or a standby dropped that an
/// emergency waited for.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn machine_acted(
    db: &impl ConnectionTrait,
    keyring: Uuid,
    since: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let acted = incident::Entity::find()
        .filter(incident::Column::KeyringId.eq(keyring))
        .filter(incident::Column::MachineActedAt.gt(since));
    Ok(acted.one(db).await?.is_some())
}

/// Holds an incident until the unit ends: reports, and what people do with it, come one after another.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn lock(unit: &Unit, id: Uuid) -> Result<Incident, StoreError> {
    let found = incident::Entity::find_by_id(id)
        .lock(LockType::Update)
        .one(unit.db())
        .await?;
    match found {
        Some(found) => Ok(found.into()),
        None => by_id(unit.db(), id).await,
    }
}

/// Notes the rotation that moves the values under the key, whose report stopped the key, if this one did, and whether that
/// is what machines have done in an hour.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_answer(
    unit: &Unit,
    incident: Uuid,
    rotation: Option<Uuid>,
    (acted, of_machine): (Option<&Principal>, bool),
) -> Result<(), StoreError> {
    if rotation.is_none() && acted.is_none() {
        return Ok(());
    }
    let machine = acted.filter(|_| of_machine);
    let now = |who: Option<&Principal>| who.map_or(NotSet, |_| Set(Some(unit.now())));
    let change = incident::ActiveModel {
        rotation_id: rotation.map_or(NotSet, |id| Set(Some(id))),
        acted_at: now(acted),
        machine_acted_at: now(machine),
        ..Default::default()
    };
    incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::Id.eq(incident))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Hands the values that an earlier rotation was to move for these incidents to another rotation.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn hand_over(unit: &Unit, earlier: Uuid, later: Uuid) -> Result<(), StoreError> {
    let change = incident::ActiveModel {
        rotation_id: Set(Some(later)),
        ..Default::default()
    };
    incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::RotationId.eq(earlier))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Has a rotation answer the incidents of the keyring whose keys may have values left under them that no other moves, as
/// after an emergency that was cancelled.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn take_up(unit: &Unit, keyring: Uuid, rotation: Uuid) -> Result<(), StoreError> {
    let left = Query::select()
        .column(key::Column::KeyId)
        .from(key::Entity)
        .and_where(key::Column::KeyringId.eq(keyring))
        .and_where(key::Column::State.eq(Text(KeyState::Compromised)))
        .and_where(key::Column::ActivatedAt.is_not_null())
        .and_where(key::Column::EmptiedAt.is_null())
        .and_where(key::Column::ClosedAt.is_null())
        .to_owned();
    let change = incident::ActiveModel {
        rotation_id: Set(Some(rotation)),
        ..Default::default()
    };
    incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::KeyId.in_subquery(left))
        .filter(incident::Column::State.ne(Text(IncidentState::Resolved)))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Notes what stood under the key, where it was not known when the key was reported first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_exposure(
    unit: &Unit,
    incident: Uuid,
    exposure: Exposure,
) -> Result<(), StoreError> {
    let change = incident::ActiveModel {
        exposure: Set(Some(Json(exposure))),
        ..Default::default()
    };
    incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::Id.eq(incident))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Notes since when others know the key, as a further report says: the earliest date of all reports counts.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn known_since(
    unit: &Unit,
    incident: &Incident,
    since: DateTime<Utc>,
) -> Result<(), StoreError> {
    if incident.since.is_some_and(|known| known <= since) {
        return Ok(());
    }
    let change = incident::ActiveModel {
        since: Set(Some(since)),
        ..Default::default()
    };
    incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::Id.eq(incident.id))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Moves an incident to another state.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where it was changed meanwhile.
pub async fn move_to(
    unit: &Unit,
    incident: &Incident,
    next: IncidentState,
    by: &Principal,
) -> Result<(), StoreError> {
    let (id, state) = (incident.id, incident.state);
    if !state.may_become(next) {
        let why = format!("incident {id} is {state} already");
        return Err(StoreError::Refused(why));
    }
    let (by, at) = (Set(Some(Text(by.clone()))), Set(Some(unit.now())));
    let change = match next {
        IncidentState::Resolved => incident::ActiveModel {
            resolved_by: by,
            resolved_at: at,
            ..Default::default()
        },
        _ => incident::ActiveModel {
            acknowledged_by: by,
            acknowledged_at: at,
            ..Default::default()
        },
    };
    let change = incident::ActiveModel {
        state: Set(Text(next)),
        ..change
    };
    let changed = incident::Entity::update_many()
        .set(change)
        .filter(incident::Column::Id.eq(id))
        .filter(incident::Column::State.eq(Text(state)))
        .exec(unit.db())
        .await?;
    match changed.rows_affected {
        1 => Ok(()),
        _ => Err(StoreError::Stale {
            what: format!("incident {id}"),
        }),
    }
}
