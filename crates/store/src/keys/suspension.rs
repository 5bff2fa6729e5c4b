//! A deployment whose store was rolled back encrypts nothing until a person has reconciled it.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::{
    StoreError, Unit,
    database::entities::deployment::{self, Column, Entity},
};

/// Since when nothing is encrypted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Why, in a sentence.
    pub because: String,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// Whether nothing is to be encrypted now.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn suspension(db: &impl ConnectionTrait) -> Result<Option<Suspension>, StoreError> {
    let found = Entity::find().one(db).await?;
    Ok(found.and_then(|row| {
        Some(Suspension {
            because: row.suspended_because?,
            at: row.suspended_at?,
        })
    }))
}

/// From now on nothing is encrypted but by the audit log. Answers whether that is new.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn suspend(unit: &Unit, because: &str) -> Result<bool, StoreError> {
    let row = deployment::ActiveModel {
        suspended_because: Set(Some(because.to_owned())),
        suspended_at: Set(Some(unit.now())),
        ..Default::default()
    };
    let suspended = Entity::update_many().set(row);
    let suspended = suspended.filter(Column::SuspendedBecause.is_null());
    Ok(suspended.exec(unit.db()).await?.rows_affected > 0)
}

/// It was reconciled.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resume(unit: &Unit) -> Result<(), StoreError> {
    let row = deployment::ActiveModel {
        suspended_because: Set(None),
        suspended_at: Set(None),
        ..Default::default()
    };
    Entity::update_many().set(row).exec(unit.db()).await?;
    Ok(())
}
