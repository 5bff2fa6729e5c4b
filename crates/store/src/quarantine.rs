//! The list of values that could not be re-encrypted.

use rekey_domain::{KeyId, QuarantineReason};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, sea_query::OnConflict,
};
use uuid::Uuid;

pub use crate::entities::quarantine::Model as Quarantined;
use crate::{StoreError, Unit, entities::quarantine, rotations::Rotation, stored::Text};

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
pub async fn add(unit: &Unit, rotation: &Rotation, new: NewQuarantine) -> Result<(), StoreError> {
    use quarantine::Column::{
        ColumnId, FoundAt, FoundKeyId, Pass, Reason, ResolvedAt, RotationId, RowKey,
    };
    let row = quarantine::ActiveModel {
        id: Set(Uuid::now_v7()),
        rotation_id: Set(rotation.id),
        pass: Set(Some(rotation.pass)),
        column_id: Set(new.column),
        row_key: Set(new.row_key),
        found_key_id: Set(new.found.map(|id| i64::from(id.value()))),
        reason: Set(Text(new.reason)),
        found_at: Set(unit.now()),
        resolved_at: Set(None),
    };
    let again = OnConflict::columns([ColumnId, RowKey])
        .update_columns([RotationId, Pass, FoundKeyId, Reason, FoundAt, ResolvedAt])
        .to_owned();
    quarantine::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// How many values of a column a rotation met in its current pass and had to leave, each counted
/// once: a row may be met again where its table is planned again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    column: Uuid,
) -> Result<u64, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(quarantine::Column::ColumnId.eq(column))
        .count(db)
        .await?)
}

/// The first `most` values that a rotation met in its current pass and had to leave.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn left_by(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    most: u64,
) -> Result<Vec<Quarantined>, StoreError> {
    let left = quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .order_by_asc(quarantine::Column::Id);
    Ok(left.limit(most).all(db).await?)
}

/// How many of them there are for one reason.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn left_for(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    reason: QuarantineReason,
) -> Result<u64, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(quarantine::Column::Reason.eq(reason.to_string()))
        .count(db)
        .await?)
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

/// Resolves everything of a column that is in quarantine.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resolve_column(unit: &Unit, column: Uuid) -> Result<(), StoreError> {
    let resolved = quarantine::ActiveModel {
        resolved_at: Set(Some(unit.now())),
        ..Default::default()
    };
    quarantine::Entity::update_many()
        .set(resolved)
        .filter(quarantine::Column::ColumnId.eq(column))
        .filter(quarantine::Column::ResolvedAt.is_null())
        .exec(unit.db())
        .await?;
    Ok(())
}
