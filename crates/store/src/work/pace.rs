//! The pace of a source: one row that every process takes its turns by, in the database's time.

use std::{num::NonZeroU32, time::Duration};

use rekey_domain::Pace;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, LockType, OnConflict},
};
use uuid::Uuid;

use crate::{StoreError, Unit, work::entities::pace};

/// Whether rows may be moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// They are taken on.
    Taken,
    /// Only after this.
    Wait(Duration),
}

/// Takes on `rows` at a source that takes `rate` rows a second, or answers how long to wait.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn take(
    unit: &Unit,
    source: Uuid,
    rows: u64,
    rate: NonZeroU32,
) -> Result<Turn, StoreError> {
    match lock(unit, source).await?.take(rows, rate, now(unit)) {
        Ok(taken) => save(unit, source, taken).await.map(|()| Turn::Taken),
        Err(wait) => Ok(Turn::Wait(wait)),
    }
}

/// Replaces the rows that were taken on by the rows that were moved.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn correct(
    unit: &Unit,
    source: Uuid,
    taken: u64,
    moved: u64,
    rate: NonZeroU32,
) -> Result<(), StoreError> {
    let pace = lock(unit, source).await?;
    let corrected = pace.correct(taken, moved, rate, now(unit));
    save(unit, source, corrected).await
}

fn now(unit: &Unit) -> i64 {
    unit.database_time_in(Duration::ZERO)
}

/// The source's row, held until the unit ends.
async fn lock(unit: &Unit, source: Uuid) -> Result<Pace, StoreError> {
    let row = pace::ActiveModel {
        source_id: Set(source),
        owed: Set(0),
        as_of: Set(0),
    };
    pace::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(unit.db())
        .await?;
    let found = pace::Entity::find_by_id(source)
        .lock(LockType::Update)
        .one(unit.db())
        .await?;
    Ok(found.map_or_else(Pace::default, |found| Pace {
        owed: found.owed.unsigned_abs(),
        as_of: found.as_of,
    }))
}

async fn save(unit: &Unit, source: Uuid, new: Pace) -> Result<(), StoreError> {
    let owed = i64::try_from(new.owed).unwrap_or(i64::MAX);
    pace::Entity::update_many()
        .col_expr(pace::Column::Owed, Expr::value(owed))
        .col_expr(pace::Column::AsOf, Expr::value(new.as_of))
        .filter(pace::Column::SourceId.eq(source))
        .exec(unit.db())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
    };

    async fn take_on(store: &Store, source: Uuid) -> Turn {
        let unit = store.begin().await.unwrap();
        let rate = NonZeroU32::new(10).unwrap();
        let taken = take(&unit, source, 1_000, rate).await.unwrap();
        unit.commit().await.unwrap();
        taken
    }

    #[tokio::test]
    async fn of_processes_that_take_their_turn_at_once_one_goes_on_and_the_others_know_how_long() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let (here, there) = (Uuid::now_v7(), Uuid::now_v7());
            let turns = tokio::join!(take_on(&store, here), take_on(&elsewhere, here));
            let waits = [turns.0, turns.1]
                .into_iter()
                .filter_map(|turn| match turn {
                    Turn::Taken => None,
                    Turn::Wait(wait) => Some(wait),
                });
            let waits: Vec<_> = waits.collect();
            let (least, most) = (Duration::from_secs(80), Duration::from_secs(100));
            assert!(
                matches!(waits[..], [wait] if (least..=most).contains(&wait)),
                "{waits:?}"
            );
            assert_eq!(take_on(&store, there).await, Turn::Taken, "another source");
            // Nothing of it was moved, so nothing is owed.
            let unit = store.unit().await;
            let rate = NonZeroU32::new(10).unwrap();
            correct(&unit, here, 1_000, 0, rate).await.unwrap();
            unit.commit().await.unwrap();
            assert_eq!(take_on(&elsewhere, here).await, Turn::Taken);
        }
    }
}
