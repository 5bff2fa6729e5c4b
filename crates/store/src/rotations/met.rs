//! How many values of each column a pass has met, whichever process met them.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    rotations::{Locked, Rotation, entities::met},
};

/// Adds what a batch met of a column; gives how many values the pass has met of it. The rotation is
/// locked, so nobody adds at the same time.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn add(
    unit: &Unit,
    rotation: &Locked,
    column: Uuid,
    values: u64,
) -> Result<u64, StoreError> {
    let row = met::ActiveModel {
        rotation_id: Set(rotation.id),
        pass: Set(rotation.pass),
        column_id: Set(column),
        seen: Set(0),
    };
    let key = [
        met::Column::RotationId,
        met::Column::Pass,
        met::Column::ColumnId,
    ];
    met::Entity::insert(row)
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(unit.db())
        .await?;
    let seen = Expr::col(met::Column::Seen).add(i64::try_from(values).unwrap_or(i64::MAX));
    met::Entity::update_many()
        .col_expr(met::Column::Seen, seen)
        .filter(of(rotation, column))
        .exec(unit.db())
        .await?;
    let found = met::Entity::find().filter(of(rotation, column));
    let found = found.one(unit.db()).await?;
    Ok(found.map_or(0, |found| found.seen.unsigned_abs()))
}

fn of(rotation: &Rotation, column: Uuid) -> sea_orm::sea_query::SimpleExpr {
    met::Column::RotationId
        .eq(rotation.id)
        .and(met::Column::Pass.eq(rotation.pass))
        .and(met::Column::ColumnId.eq(column))
}
