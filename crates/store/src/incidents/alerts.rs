//! Alerts: one a kind and subject, raised once, cleared when the state has passed.

use chrono::{DateTime, Utc};
use rekey_domain::{AlertKind, Principal, Severity};
use rekey_messages::AlertRaised;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, Select,
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::Text,
    incidents::entities::alert::{self, Column},
};

/// A state that people are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its id.
    pub id: Uuid,
    /// What state it is.
    pub kind: AlertKind,
    /// How soon a person is needed.
    pub severity: Severity,
    /// Of what: a key, a rotation.
    pub subject: String,
    /// The incident that it belongs to.
    pub incident_id: Option<Uuid>,
    /// How many, where it is about a number.
    pub figure: u64,
    /// Since when.
    pub raised_at: DateTime<Utc>,
    /// Who has seen it, and when.
    pub acknowledged: Option<(Principal, DateTime<Utc>)>,
    /// When the state had passed.
    pub cleared_at: Option<DateTime<Utc>>,
}

impl From<alert::Model> for Alert {
    fn from(row: alert::Model) -> Self {
        let by = row.acknowledged_by.map(|Text(who)| who);
        Self {
            id: row.id,
            kind: row.kind.0,
            severity: row
                .severity
                .map_or(row.kind.0.severity(), |Text(said)| said),
            subject: row.subject,
            incident_id: row.incident_id,
            figure: row.figure.unsigned_abs(),
            raised_at: row.raised_at,
            acknowledged: by.zip(row.acknowledged_at),
            cleared_at: row.cleared_at,
        }
    }
}

/// Those of kinds that this program knows: a later one may raise others.
pub(crate) fn known() -> Select<alert::Entity> {
    let kinds = AlertKind::all().map(|kind| kind.to_string());
    alert::Entity::find().filter(Column::Kind.is_in(kinds))
}

/// The alert of this id, raised or not.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Alert>, StoreError> {
    let found = known().filter(Column::Id.eq(id)).one(db).await?;
    Ok(found.map(Alert::from))
}

/// The alerts that are raised, latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn raised(db: &impl ConnectionTrait) -> Result<Vec<Alert>, StoreError> {
    let alerts = known()
        .filter(Column::ClearedAt.is_null())
        .order_by_desc(Column::RaisedAt);
    let alerts = alerts.all(db).await?;
    Ok(alerts.into_iter().map(Alert::from).collect())
}

/// Raises an alert, or keeps the one there is and brings its figure up to date.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn raise(
    unit: &Unit,
    kind: AlertKind,
    subject: &str,
    incident: Option<Uuid>,
    figure: u64,
) -> Result<(), StoreError> {
    raise_as(unit, (kind, kind.severity()), subject, incident, figure).await
}

/// The same of a state that is more severe than others of its kind. One that has become more severe is raised anew.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn raise_as(
    unit: &Unit,
    (kind, severity): (AlertKind, Severity),
    subject: &str,
    incident: Option<Uuid>,
    figure: u64,
) -> Result<(), StoreError> {
    let figure = i64::try_from(figure).unwrap_or(i64::MAX);
    let known = alert::Entity::find()
        .filter(Column::Kind.eq(Text(kind)))
        .filter(Column::Subject.eq(subject))
        .one(unit.db())
        .await?;
    let Some(known) = known else {
        let row = alert::ActiveModel {
            id: Set(unit.new_id()),
            kind: Set(Text(kind)),
            subject: Set(subject.to_owned()),
            incident_id: Set(incident),
            figure: Set(figure),
            severity: Set(Some(Text(severity))),
            raised_at: Set(unit.now()),
            acknowledged_by: Set(None),
            acknowledged_at: Set(None),
            cleared_at: Set(None),
        };
        let taken = |error| StoreError::stale_if_taken(error, format!("alert {kind} of {subject}"));
        let raised = row.insert(unit.db()).await.map_err(taken)?;
        return tell(unit, raised.id, kind).await;
    };
    let mut change = alert::ActiveModel {
        id: Set(known.id),
        figure: Set(figure),
        severity: Set(Some(Text(severity))),
        ..Default::default()
    };
    let before = known.severity.map_or(kind.severity(), |Text(said)| said);
    let anew = known.cleared_at.is_some() || severity > before;
    if anew {
        change.raised_at = Set(unit.now());
        change.incident_id = Set(incident);
        change.cleared_at = Set(None);
        change.acknowledged_by = Set(None);
        change.acknowledged_at = Set(None);
    }
    if !anew && known.figure == figure && severity == before {
        return Ok(());
    }
    change.update(unit.db()).await?;
    match anew {
        true => tell(unit, known.id, kind).await,
        false => Ok(()),
    }
}

async fn tell(unit: &Unit, alert: Uuid, kind: AlertKind) -> Result<(), StoreError> {
    let kind = kind.to_string();
    unit.send(&AlertRaised { alert, kind }).await
}

/// Notes who has seen an alert.
///
/// # Errors
/// [`StoreError::Unknown`] when none of this id is raised.
pub async fn acknowledge(unit: &Unit, id: Uuid, by: &Principal) -> Result<(), StoreError> {
    let seen = alert::ActiveModel {
        acknowledged_by: Set(Some(Text(by.clone()))),
        acknowledged_at: Set(Some(unit.now())),
        ..Default::default()
    };
    let seen = alert::Entity::update_many()
        .set(seen)
        .filter(Column::Id.eq(id))
        .filter(Column::ClearedAt.is_null())
        .exec(unit.db())
        .await?;
    // A report that nobody can answer is over once somebody has seen it; another is raised anew.
    if let Some(alert) = find(unit.db(), id).await?
        && alert.kind == AlertKind::UnknownKeyReported
    {
        clear(unit, alert.kind, &alert.subject).await?;
    }
    match seen.rows_affected {
        1 => Ok(()),
        _ => Err(StoreError::Unknown {
            what: format!("raised alert {id}"),
            known: Vec::new(),
        }),
    }
}

/// Clears an alert, if it is raised.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn clear(unit: &Unit, kind: AlertKind, subject: &str) -> Result<(), StoreError> {
    let cleared = alert::ActiveModel {
        cleared_at: Set(Some(unit.now())),
        ..Default::default()
    };
    alert::Entity::update_many()
        .set(cleared)
        .filter(Column::Kind.eq(Text(kind)))
        .filter(Column::Subject.eq(subject))
        .filter(Column::ClearedAt.is_null())
        .exec(unit.db())
        .await?;
    Ok(())
}
