//! Destinations: their names, as `rekey apply` wrote them. URLs and credentials are each process's own.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rekey_domain::{DestinationName, Erasable};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder,
};
use uuid::Uuid;

use crate::{StoreError, Unit, backups::entities::destination, database::stored::Text};

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name.
    pub name: DestinationName,
    /// When it was declared.
    pub made_at: DateTime<Utc>,
    /// Whether the verifier could erase what is there; none: nobody tried yet.
    pub erasable: Option<Erasable>,
    /// When that was last tried.
    pub probed_at: Option<DateTime<Utc>>,
    /// The object of ours by which the place is known again; none: nothing was stored yet.
    pub mark: Option<Uuid>,
    /// Since when the name means this place. What was found before was found elsewhere.
    pub here_since: Option<DateTime<Utc>>,
}

/// Every destination, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Destination>, StoreError> {
    let rows = destination::Entity::find().order_by_asc(destination::Column::Name);
    let rows = rows.all(db).await?.into_iter();
    Ok(rows
        .map(|row| Destination {
            name: row.name.0,
            made_at: row.made_at,
            erasable: row.erasable.map(|Text(erasable)| erasable),
            probed_at: row.probed_at,
            mark: row.mark,
            here_since: row.here_since,
        })
        .collect())
}

/// Declares a destination.
///
/// # Errors
/// [`StoreError::Stale`] where another declared one of this name meanwhile.
pub async fn make(unit: &Unit, name: &DestinationName) -> Result<(), StoreError> {
    let row = destination::ActiveModel {
        id: Set(unit.new_id()),
        name: Set(Text(name.clone())),
        made_at: Set(unit.now()),
        erasable: Set(None),
        probed_at: Set(None),
        mark: Set(None),
        // What was found under this name before it was taken away says nothing of what it means now.
        here_since: Set(Some(unit.now())),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("destination {name}"));
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(())
}

/// Notes whether the verifier could erase what is there; none: that could not be told.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_erasable(
    unit: &Unit,
    name: &DestinationName,
    erasable: Option<Erasable>,
) -> Result<(), StoreError> {
    let row = destination::ActiveModel {
        erasable: Set(erasable.map(Text)),
        probed_at: Set(Some(unit.now())),
        ..Default::default()
    };
    update(unit, name, row).await
}

/// Notes that the name means another place from now on, known by this mark.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_place(unit: &Unit, name: &DestinationName, mark: Uuid) -> Result<(), StoreError> {
    let row = destination::ActiveModel {
        mark: Set(Some(mark)),
        here_since: Set(Some(unit.now())),
        ..Default::default()
    };
    update(unit, name, row).await
}

async fn update(
    unit: &Unit,
    name: &DestinationName,
    row: destination::ActiveModel,
) -> Result<(), StoreError> {
    let named = destination::Entity::update_many()
        .set(row)
        .filter(destination::Column::Name.eq(name.as_str()));
    named.exec(unit.db()).await?;
    Ok(())
}

/// Since when each name means the place that it means.
pub(super) struct Since(HashMap<DestinationName, DateTime<Utc>>);

impl Since {
    pub(super) async fn of(db: &impl ConnectionTrait) -> Result<Self, StoreError> {
        let all = all(db).await?.into_iter();
        Ok(Self(
            all.filter_map(|one| Some((one.name, one.here_since?)))
                .collect(),
        ))
    }

    /// Whether what was found then was found at the place of today.
    pub(super) fn is_here(&self, at: &DestinationName, then: DateTime<Utc>) -> bool {
        self.0.get(at).is_none_or(|since| then >= *since)
    }
}

/// Declares it no more. What is kept there stays, and proves nothing any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn remove(unit: &Unit, name: &DestinationName) -> Result<(), StoreError> {
    destination::Entity::delete_many()
        .filter(destination::Column::Name.eq(name.as_str()))
        .exec(unit.db())
        .await?;
    Ok(())
}
