//! The list of values that could not be re-encrypted.

use rekey_domain::{KeyId, QuarantineReason};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::OnConflict,
};
use uuid::Uuid;

pub use crate::entities::quarantine::Model as Quarantined;
use crate::{StoreError, Unit, entities::quarantine, stored::Text};

/// A value to put in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuarantine {
    /// The protected column.
    pub column: Uuid,
    /// The row, as its source names it.
    pub row_key: String,
    /// The key id its first bytes name, if they name one.
    pub found: Option<KeyId>,
    /// Why.
    pub reason: QuarantineReason,
}

/// Puts a value in quarantine; again only brings the reason up to date.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn add(unit: &Unit, rotation: Uuid, new: NewQuarantine) -> Result<(), StoreError> {
    use quarantine::Column::{
        ColumnId, FoundAt, FoundKeyId, Reason, ResolvedAt, RotationId, RowKey,
    };
    let row = quarantine::ActiveModel {
        id: Set(Uuid::now_v7()),
        rotation_id: Set(rotation),
        column_id: Set(new.column),
        row_key: Set(new.row_key),
        found_key_id: Set(new.found.map(|id| i64::from(id.value()))),
        reason: Set(Text(new.reason)),
        found_at: Set(unit.now()),
        resolved_at: Set(None),
    };
    let again = OnConflict::columns([ColumnId, RowKey])
        .update_columns([RotationId, FoundKeyId, Reason, FoundAt, ResolvedAt])
        .to_owned();
    quarantine::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// What is in quarantine and was not resolved.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open(db: &impl ConnectionTrait) -> Result<Vec<Quarantined>, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::ResolvedAt.is_null())
        .all(db)
        .await?)
}

/// The rows of a column in quarantine.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_column(
    db: &impl ConnectionTrait,
    column: Uuid,
) -> Result<Vec<Quarantined>, StoreError> {
    let of_column = quarantine::Column::ColumnId.eq(column);
    let open = quarantine::Column::ResolvedAt.is_null();
    Ok(quarantine::Entity::find()
        .filter(of_column)
        .filter(open)
        .all(db)
        .await?)
}
