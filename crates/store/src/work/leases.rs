//! Leases: rights that end by themselves, each with a fencing token (rule 9).

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use crate::{StoreError, Unit, work::entities::lease};

/// How long a job's lease lasts without renewal: what a process that died held is taken up after that.
pub const JOB_LEASE: Duration = Duration::from_secs(15);

/// No lease is granted for longer; one that ends later means the clock was stepped back since.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// A right we were granted. Only the holder of the latest token can write under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    token: i64,
}

/// Takes a lease if nobody holds it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn acquire(
    unit: &Unit,
    name: &str,
    holder: &str,
    lasts: Duration,
) -> Result<Option<Lease>, StoreError> {
    use lease::Column::{Holder, Name, Token, Until};
    let now = unit.database_time_in(Duration::ZERO);
    let row = lease::ActiveModel {
        name: Set(name.to_owned()),
        token: Set(rand::random()),
        holder: Set(holder.to_owned()),
        until: Set(unit.database_time_in(lasts.min(LONGEST))),
    };
    let token = *row.token.as_ref();
    let free = Expr::col((lease::Entity, Until))
        .lte(now)
        .or(Expr::col((lease::Entity, Until)).gt(now + LONGEST.as_millis() as i64));
    let taken = lease::Entity::insert(row)
        .on_conflict(
            OnConflict::column(Name)
                .update_columns([Token, Holder, Until])
                .action_and_where(free)
                .to_owned(),
        )
        .exec_without_returning(unit.db())
        .await?;
    Ok((taken == 1).then(|| Lease {
        name: name.to_owned(),
        token,
    }))
}

/// Renews a lease and makes the whole unit depend on holding it.
///
/// # Errors
/// [`StoreError::Fenced`] when it has passed to another; the unit must then be dropped.
pub async fn hold(unit: &Unit, lease: &Lease, lasts: Duration) -> Result<(), StoreError> {
    let until = unit.database_time_in(lasts.min(LONGEST));
    let renewed = lease::Entity::update_many()
        .col_expr(lease::Column::Until, Expr::value(until))
        .filter(ours(lease))
        .exec(unit.db())
        .await?;
    if renewed.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Fenced {
            name: lease.name.clone(),
        })
    }
}

/// Gives a lease back, and makes the whole unit depend on having held it.
///
/// # Errors
/// [`StoreError::Fenced`] when it has passed to another; the unit must then be dropped.
pub async fn release(unit: &Unit, lease: &Lease) -> Result<(), StoreError> {
    let deleted = lease::Entity::delete_many()
        .filter(ours(lease))
        .exec(unit.db())
        .await?;
    if deleted.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Fenced {
            name: lease.name.clone(),
        })
    }
}

fn ours(lease: &Lease) -> Condition {
    Condition::all()
        .add(lease::Column::Name.eq(&lease.name))
        .add(lease::Column::Token.eq(lease.token))
}

/// Ends every lease on messages and jobs. Only for the one worker process of a SQLite store, at
/// start, while it holds the worker lock: whoever held them is gone.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn end_all(unit: &Unit, _proof: &crate::WorkerLock) -> Result<(), StoreError> {
    use crate::{
        messaging::entities::outbox,
        rotations::entities::{batch, rotation},
    };
    lease::Entity::delete_many().exec(unit.db()).await?;
    let now = Expr::value(0);
    outbox::Entity::update_many()
        .col_expr(outbox::Column::LeasedUntil, now.clone())
        .exec(unit.db())
        .await?;
    batch::Entity::update_many()
        .col_expr(batch::Column::ResendAt, now.clone())
        .exec(unit.db())
        .await?;
    rotation::Entity::update_many()
        .col_expr(rotation::Column::ResendAt, now)
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Whether somebody holds the lease of this name now.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn is_held(db: &impl sea_orm::ConnectionTrait, name: &str) -> Result<bool, StoreError> {
    let now = crate::database_time(db).await?;
    let found = lease::Entity::find_by_id(name).one(db).await?;
    Ok(found.is_some_and(|lease| lease.until > now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        WorkerLock,
        database::test_store::{Kind, TestStore},
        database_time,
        keys::keyrings,
    };

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: i64 = 24 * 60 * 60 * 1_000;

    async fn take(store: &crate::Store, holder: &str, lasts: Duration) -> Option<Lease> {
        let unit = store.begin().await.unwrap();
        let lease = acquire(&unit, "batch/1", holder, lasts).await.unwrap();
        unit.commit().await.unwrap();
        lease
    }

    async fn move_end(store: &TestStore, until: i64) {
        let unit = store.unit().await;
        let row = lease::Entity::update_many().col_expr(lease::Column::Until, Expr::value(until));
        row.exec(unit.db()).await.unwrap();
        unit.commit().await.unwrap();
    }

    async fn end(store: &TestStore) -> i64 {
        let row = lease::Entity::find_by_id("batch/1").one(store.db()).await;
        row.unwrap().unwrap().until
    }

    #[tokio::test]
    async fn a_lease_is_exclusive_until_it_is_given_back() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let held = take(&store, "a", MINUTE).await.unwrap();
            assert_eq!(take(&elsewhere, "b", MINUTE).await, None);
            assert_eq!(take(&store, "a", MINUTE).await, None, "not even twice");
            let unit = store.unit().await;
            release(&unit, &held).await.unwrap();
            unit.commit().await.unwrap();
            assert!(take(&elsewhere, "b", MINUTE).await.is_some());
        }
    }

    #[tokio::test]
    async fn whoever_lost_a_lease_is_fenced_and_its_unit_writes_nothing() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let lost = take(&store, "a", Duration::ZERO).await.unwrap();
            let held = take(&store.another().await, "b", MINUTE).await.unwrap();
            for step in [true, false] {
                let unit = store.unit().await;
                keyrings::ensure_deployment(&unit).await.unwrap();
                let fenced = match step {
                    true => hold(&unit, &lost, MINUTE).await,
                    false => release(&unit, &lost).await,
                };
                assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
                drop(unit);
                assert!(keyrings::deployment(store.db()).await.is_err());
            }
            hold(&store.unit().await, &held, MINUTE).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lease_that_ended_is_still_its_holders_until_another_takes_it() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let lease = take(&store, "a", Duration::ZERO).await.unwrap();
            let unit = store.unit().await;
            hold(&unit, &lease, MINUTE).await.unwrap();
            unit.commit().await.unwrap();
            assert_eq!(take(&store, "b", MINUTE).await, None);
        }
    }

    #[tokio::test]
    async fn no_lease_lasts_longer_than_the_longest() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let lease = take(&store, "a", 100 * LONGEST).await.unwrap();
            let furthest = |now: i64| now + LONGEST.as_millis() as i64;
            assert!(end(&store).await <= furthest(database_time(store.db()).await.unwrap()));
            let unit = store.unit().await;
            hold(&unit, &lease, 100 * LONGEST).await.unwrap();
            unit.commit().await.unwrap();
            assert!(end(&store).await <= furthest(database_time(store.db()).await.unwrap()));
        }
    }

    #[tokio::test]
    async fn a_lease_that_ends_further_ahead_than_any_grant_can_be_taken() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let stale = take(&store, "a", MINUTE).await.unwrap();
            // The database's clock was stepped back by a day since.
            move_end(&store, end(&store).await + DAY).await;
            assert!(take(&store, "b", MINUTE).await.is_some());
            let fenced = hold(&store.unit().await, &stale, MINUTE).await;
            assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
        }
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_one_gets_the_lease() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let ask = |store: &crate::Store, holder: usize| {
                let store = store.clone();
                tokio::spawn(async move { take(&store, &holder.to_string(), MINUTE).await })
            };
            let asked: Vec<_> = (0..8)
                .flat_map(|i| [ask(&store, i), ask(&elsewhere, i)])
                .collect();
            let mut granted = 0;
            for answer in asked {
                granted += usize::from(answer.await.unwrap().is_some());
            }
            assert_eq!(granted, 1);
        }
    }

    #[tokio::test]
    async fn whoever_holds_the_worker_lock_ends_what_an_earlier_process_held() {
        let store = TestStore::new(Kind::Sqlite).await;
        let stale = take(&store, "a", MINUTE).await.unwrap();
        let lock = WorkerLock::take(&store.sqlite_file().unwrap()).unwrap();
        let unit = store.unit().await;
        end_all(&unit, &lock).await.unwrap();
        unit.commit().await.unwrap();
        assert!(take(&store, "b", MINUTE).await.is_some());
        let fenced = hold(&store.unit().await, &stale, MINUTE).await;
        assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    }
}
