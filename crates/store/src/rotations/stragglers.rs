//! The latest look for stragglers at each keyring.

use rekey_domain::ColumnName;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, sea_query::OnConflict};
use uuid::Uuid;

pub use crate::rotations::entities::straggler_look::Model as Look;
use crate::{StoreError, Unit, database::stored::Json, rotations::entities::straggler_look};

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Values under keys before the primary key.
    pub stragglers: u64,
    /// The columns where they are.
    pub columns: Vec<ColumnName>,
    /// Where much is under keys that the store never had: how much, in words.
    pub unknown_keys: Option<String>,
}

impl Look {
    /// The columns where all was that it found; none: not known, as after a look of an older program.
    pub fn columns(&self) -> Option<&[ColumnName]> {
        let known = self
            .columns
            .as_ref()
            .filter(|_| self.unknown_keys.is_none());
        known.map(|Json(columns)| columns.as_slice())
    }
}

/// Notes what a look at the keyring found, in place of the look before.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note(unit: &Unit, keyring: Uuid, found: &Findings) -> Result<(), StoreError> {
    use straggler_look::Column::{Columns, Failure, LookedAt, Stragglers, UnknownKeys};
    let row = straggler_look::ActiveModel {
        stragglers: Set(i64::try_from(found.stragglers).unwrap_or(i64::MAX)),
        unknown_keys: Set(found.unknown_keys.clone()),
        columns: Set(Some(Json(found.columns.clone()))),
        ..at(unit, keyring)
    };
    let columns = [LookedAt, Stragglers, UnknownKeys, Failure, Columns];
    put(unit, row, &columns).await
}

/// Notes why nobody could look; what the look before found stays.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_failure(unit: &Unit, keyring: Uuid, why: &str) -> Result<(), StoreError> {
    let row = straggler_look::ActiveModel {
        failure: Set(Some(why.to_owned())),
        ..at(unit, keyring)
    };
    put(unit, row, &[straggler_look::Column::Failure]).await
}

/// A look that found nothing, now.
fn at(unit: &Unit, keyring: Uuid) -> straggler_look::ActiveModel {
    straggler_look::ActiveModel {
        keyring_id: Set(keyring),
        looked_at: Set(unit.now()),
        stragglers: Set(0),
        unknown_keys: Set(None),
        failure: Set(None),
        columns: Set(None),
    }
}

/// Stores it, or these columns of it where the keyring was looked at before.
async fn put(
    unit: &Unit,
    row: straggler_look::ActiveModel,
    columns: &[straggler_look::Column],
) -> Result<(), StoreError> {
    let again = OnConflict::column(straggler_look::Column::KeyringId)
        .update_columns(columns.iter().copied())
        .to_owned();
    straggler_look::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// The latest look at each keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Look>, StoreError> {
    Ok(straggler_look::Entity::find().all(db).await?)
}
