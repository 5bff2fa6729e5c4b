//! Censuses that rotations took.

use rekey_domain::{Found, KeyId};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
};
use uuid::Uuid;

pub use crate::entities::census::Model as Counted;
use crate::{StoreError, Unit, entities::census};

/// The pass that a rotation's census before its first batch is stored under.
pub const BEFORE: i32 = -1;

impl Counted {
    /// What the counted values are.
    pub fn found(&self) -> Found {
        let id = self.found_key_id.and_then(|id| u32::try_from(id).ok());
        id.map_or(Found::NotCiphertext, |id| Found::Key(KeyId::new(id)))
    }
}

/// Stores how many values of a column were found under each key; a column without values as zero.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn record(
    unit: &Unit,
    rotation: Uuid,
    pass: i32,
    column: Uuid,
    counts: &[(Found, u64)],
) -> Result<(), StoreError> {
    for (found, rows) in counts {
        let found_key_id = match found {
            Found::Key(id) => Some(i64::from(id.value())),
            Found::NotCiphertext => None,
        };
        let row = census::ActiveModel {
            id: Set(Uuid::now_v7()),
            rotation_id: Set(rotation),
            pass: Set(pass),
            column_id: Set(column),
            found_key_id: Set(found_key_id),
            rows: Set(i64::try_from(*rows).unwrap_or(i64::MAX)),
            taken_at: Set(unit.now()),
        };
        census::Entity::insert(row)
            .exec_without_returning(unit.db())
            .await?;
    }
    Ok(())
}

/// The census of one pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: Uuid,
    pass: i32,
) -> Result<Vec<Counted>, StoreError> {
    let of_pass = census::Column::RotationId
        .eq(rotation)
        .and(census::Column::Pass.eq(pass));
    Ok(census::Entity::find()
        .filter(of_pass)
        .order_by_asc(census::Column::Id)
        .all(db)
        .await?)
}
