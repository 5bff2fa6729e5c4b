//! Up to which time each schedule's ticks are settled.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{StoreError, Unit, entities::schedule};

/// Up to which time the schedule is settled; a new one counts from the unit's time.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn fired_up_to(unit: &Unit, name: &str) -> Result<DateTime<Utc>, StoreError> {
    if let Some(found) = schedule::Entity::find_by_id(name).one(unit.db()).await? {
        return Ok(found.fired_up_to);
    }
    let row = schedule::ActiveModel {
        name: Set(name.to_owned()),
        fired_up_to: Set(unit.now()),
    };
    schedule::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(unit.now())
}

/// Settles the schedule up to `tick`, if it still stands at `from`; `false` if another was first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn settle(
    unit: &Unit,
    name: &str,
    from: DateTime<Utc>,
    tick: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let settled = schedule::Entity::update_many()
        .col_expr(schedule::Column::FiredUpTo, Expr::value(tick))
        .filter(schedule::Column::Name.eq(name))
        .filter(schedule::Column::FiredUpTo.eq(from))
        .exec(unit.db())
        .await?;
    Ok(settled.rows_affected == 1)
}
