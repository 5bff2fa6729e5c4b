//! Batches of small parts that another leads: they are sent with it, and done beside it, or sent by themselves later.

use rekey_domain::BatchState;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr,
};
use uuid::Uuid;

use super::{Batch, of_pass::of_pass};
use crate::{
    StoreError, Unit,
    rotations::{Rotation, entities::batch},
};

/// The batches that `leader` leads and that are still to be done, in the order in which they were planned.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn led(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    leader: &Batch,
) -> Result<Vec<Batch>, StoreError> {
    Ok(batch::Entity::find()
        .filter(of_pass(rotation, BatchState::Planned))
        .filter(batch::Column::LedBy.eq(leader.id))
        .order_by_asc(batch::Column::Id)
        .all(db)
        .await?)
}

/// Has the batches that `leader` leads and that are not done yet sent alone.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn release(unit: &Unit, leader: &Batch) -> Result<(), StoreError> {
    batch::Entity::update_many()
        .col_expr(batch::Column::LedBy, Expr::value(None::<Uuid>))
        .filter(batch::Column::RotationId.eq(leader.rotation_id))
        .filter(batch::Column::Pass.eq(leader.pass))
        .filter(batch::Column::State.eq(BatchState::Planned.to_string()))
        .filter(batch::Column::LedBy.eq(leader.id))
        .exec(unit.db())
        .await?;
    Ok(())
}
