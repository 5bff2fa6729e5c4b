//! Up to which time each schedule's ticks are settled.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use crate::{StoreError, Unit, work::entities::schedule};

/// Up to which time the schedule is settled; a new one counts from the unit's time.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn fired_up_to(unit: &Unit, name: &str) -> Result<DateTime<Utc>, StoreError> {
    if let Some(found) = find(unit, name).await? {
        return Ok(found);
    }
    let row = schedule::ActiveModel {
        name: Set(name.to_owned()),
        fired_up_to: Set(unit.now()),
    };
    let unless_there = OnConflict::column(schedule::Column::Name)
        .do_nothing()
        .to_owned();
    schedule::Entity::insert(row)
        .on_conflict(unless_there)
        .exec_without_returning(unit.db())
        .await?;
    let found = find(unit, name).await?;
    Ok(found.expect("the schedule was just made, and is never removed"))
}

async fn find(unit: &Unit, name: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    let found = schedule::Entity::find_by_id(name).one(unit.db()).await?;
    Ok(found.map(|schedule| schedule.fired_up_to))
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
    };

    #[tokio::test]
    async fn a_schedule_looked_at_by_two_for_the_first_time_stands_at_one_time() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let look = async |store: &Store, name: &str| {
                let unit = store.begin().await.unwrap();
                let stands = fired_up_to(&unit, name).await.unwrap();
                unit.commit().await.unwrap();
                stands
            };
            for name in ["a", "b", "c", "d"] {
                let both = (look(&store, name), look(&elsewhere, name));
                let (here, there) = tokio::join!(both.0, both.1);
                assert_eq!(here, there);
            }
        }
    }

    #[tokio::test]
    async fn a_tick_is_settled_by_one_of_two() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let unit = store.unit().await;
            let from = fired_up_to(&unit, "rotate/phi").await.unwrap();
            unit.commit().await.unwrap();
            let tick = from + TimeDelta::hours(1);
            let settle = async |store: &Store| {
                let unit = store.begin().await.unwrap();
                let first = settle(&unit, "rotate/phi", from, tick).await.unwrap();
                unit.commit().await.unwrap();
                first
            };
            let (here, there) = tokio::join!(settle(&store), settle(&elsewhere));
            assert!(here != there);
        }
    }
}
