//! What was told is kept while anybody may ask, or would be told anew.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    delivery::{Delivery, parsed},
    untold::{still_open, still_raised},
};
use crate::{
    StoreError, Unit,
    notifications::entities::delivery::{self, Column},
};

/// Deliveries about one subject, the oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn about(db: &impl ConnectionTrait, subject: Uuid) -> Result<Vec<Delivery>, StoreError> {
    let found = delivery::Entity::find()
        .filter(Column::SubjectId.eq(subject))
        .order_by_asc(Column::Id);
    Ok(parsed(found.all(db).await?))
}

/// Removes what was settled before (database time, milliseconds), unless what it is about goes on: else it would be
/// told anew.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn prune(unit: &Unit, before: i64) -> Result<u64, StoreError> {
    let goes_on = Condition::any()
        .add(Expr::exists(still_raised()))
        .add(Expr::exists(still_open()));
    let pruned = delivery::Entity::delete_many()
        .filter(Column::SettledAt.lt(before))
        .filter(goes_on.not())
        .exec(unit.db())
        .await?;
    Ok(pruned.rows_affected)
}
