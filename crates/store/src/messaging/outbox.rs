//! The outbox: leasing messages that are due, for the local transport and the relay.

use std::time::Duration;

use rekey_domain::MAX_DELAY;
use rekey_messages::Queue;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};

use crate::{
    Store, StoreError, Unit, database_time,
    messaging::{broadcasts::is_broadcast, entities::outbox},
};

/// A message leased for a while; it returns by itself when the lease ends.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The queue it is for.
    pub queue: Queue,
    /// The row and its fencing token.
    pub receipt: Receipt,
    /// The event as JSON.
    pub event: String,
}

/// What settles a leased message; void once the lease has passed to another.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    id: uuid::Uuid,
    token: i64,
}

/// Leases the oldest message that is due in the first of `queues` that has one.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn lease_next(
    store: &Store,
    queues: &[Queue],
    lasts: Duration,
) -> Result<Option<Leased>, StoreError> {
    // Looking first costs idle workers no write lock.
    let looked_at = database_time(store.db()).await?;
    let due = outbox::Entity::find()
        .filter(is_due(queues, looked_at))
        .limit(1)
        .one(store.db())
        .await?;
    if due.is_none() {
        return Ok(None);
    }
    let unit = store.begin_forgettable().await?;
    let now = unit.database_time_in(Duration::ZERO);
    let Some((queue, row)) = oldest_due(&unit, queues, now).await? else {
        return Ok(None);
    };
    let receipt = Receipt {
        id: row.id,
        token: rand::random(),
    };
    outbox::Entity::update_many()
        .col_expr(outbox::Column::LeaseToken, Expr::value(receipt.token))
        .col_expr(
            outbox::Column::LeasedUntil,
            Expr::value(unit.database_time_in(lasts)),
        )
        .filter(outbox::Column::Id.eq(row.id))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(Some(Leased {
        queue,
        receipt,
        event: row.event,
    }))
}

async fn oldest_due(
    unit: &Unit,
    queues: &[Queue],
    now: i64,
) -> Result<Option<(Queue, outbox::Model)>, StoreError> {
    for queue in queues {
        let oldest = outbox::Entity::find()
            .filter(is_due(&[*queue], now))
            .order_by_asc(outbox::Column::AvailableAt)
            .order_by_asc(outbox::Column::Id)
            .limit(1)
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            .one(unit.db())
            .await?;
        if let Some(row) = oldest {
            return Ok(Some((*queue, row)));
        }
    }
    Ok(None)
}

fn is_due(queues: &[Queue], now: i64) -> Condition {
    let queues = queues.iter().map(|queue| queue.to_string());
    due(now).add(outbox::Column::Queue.is_in(queues))
}

/// Due, and not leased. A date further ahead than any we set means the clock was stepped back.
pub(crate) fn due(now: i64) -> Condition {
    let furthest = now + i64::try_from(MAX_DELAY.as_millis()).expect("an hour fits");
    let passed = |column: outbox::Column| {
        Condition::any()
            .add(column.lte(now))
            .add(column.gt(furthest))
    };
    Condition::all()
        .add(passed(outbox::Column::AvailableAt))
        .add(passed(outbox::Column::LeasedUntil))
}

fn ours(receipt: Receipt) -> Condition {
    Condition::all()
        .add(outbox::Column::Id.eq(receipt.id))
        .add(outbox::Column::LeaseToken.eq(receipt.token))
}

/// Removes a message that was handled; `false` if its lease had passed to another.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn remove(store: &Store, receipt: Receipt) -> Result<bool, StoreError> {
    let unit = store.begin_forgettable().await?;
    let deleted = outbox::Entity::delete_many()
        .filter(ours(receipt))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(deleted.rows_affected == 1)
}

/// Sets when the lease ends, from now: zero gives the message back at once.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn extend(store: &Store, receipt: Receipt, lasts: Duration) -> Result<bool, StoreError> {
    let unit = store.begin_forgettable().await?;
    let updated = outbox::Entity::update_many()
        .col_expr(
            outbox::Column::LeasedUntil,
            Expr::value(unit.database_time_in(lasts)),
        )
        .filter(ours(receipt))
        .exec(unit.db())
        .await?;
    if lasts.is_zero() {
        unit.commit().await?
    } else {
        unit.commit_quietly().await?
    }
    Ok(updated.rows_affected == 1)
}

/// How many messages wait in each queue that processes share, leased ones included.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn depths(store: &Store) -> Result<Vec<(Queue, u64)>, StoreError> {
    let mut depths = Vec::new();
    for queue in Queue::ALL.into_iter().filter(|queue| queue.is_shared()) {
        let of_queue = outbox::Column::Queue.eq(queue.to_string());
        let waiting = outbox::Entity::find().filter(of_queue).count(store.db());
        depths.push((queue, waiting.await?));
    }
    Ok(depths)
}

/// How many messages wait for a worker, leased ones included.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn depth(store: &Store) -> Result<u64, StoreError> {
    Ok(outbox::Entity::find()
        .filter(is_broadcast().not())
        .count(store.db())
        .await?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rekey_messages::RotationDue;
    use uuid::Uuid;

    use super::*;
    use crate::database::test_store::{Kind, TestStore};

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: i64 = 60 * 60 * 1_000;

    async fn send(store: &TestStore, count: usize, delay: Duration) {
        let unit = store.unit().await;
        for _ in 0..count {
            let rotation = Uuid::now_v7();
            let due = RotationDue { rotation };
            unit.send_after(&due, delay).await.unwrap();
        }
        unit.commit().await.unwrap();
    }

    async fn lease(store: &Store, lasts: Duration) -> Option<Leased> {
        lease_next(store, &[Queue::Rotator], lasts).await.unwrap()
    }

    async fn set(store: &TestStore, column: outbox::Column, value: i64) {
        let unit = store.unit().await;
        let row = outbox::Entity::update_many().col_expr(column, Expr::value(value));
        row.exec(unit.db()).await.unwrap();
        unit.commit().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn takers_at_work_together_never_get_the_same_message() {
        for kind in Kind::BOTH {
            const MESSAGES: usize = 60;
            let store = TestStore::new(kind).await;
            send(&store, MESSAGES, Duration::ZERO).await;
            let takers = [
                store.clone(),
                store.clone(),
                store.another().await,
                store.another().await,
            ];
            let takers = takers.map(|store| {
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    while let Some(leased) = lease(&store, MINUTE).await {
                        taken.push(leased.event);
                    }
                    taken
                })
            });
            let mut taken = Vec::new();
            for taker in takers {
                taken.extend(taker.await.unwrap());
            }
            assert_eq!(taken.len(), MESSAGES);
            assert_eq!(taken.into_iter().collect::<HashSet<_>>().len(), MESSAGES);
        }
    }

    #[tokio::test]
    async fn a_delayed_message_is_due_after_its_delay_and_not_before() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let sent = database_time(store.db()).await.unwrap();
            let delay = Duration::from_millis(150);
            send(&store, 1, delay).await;
            assert!(lease(&store, MINUTE).await.is_none());
            while lease(&store, MINUTE).await.is_none() {
                let waited = database_time(store.db()).await.unwrap() - sent;
                assert!(waited < 10_000, "due {waited} ms after it was sent");
                tokio::task::yield_now().await;
            }
            let waited = database_time(store.db()).await.unwrap() - sent;
            assert!(waited >= 150, "due {waited} ms after it was sent");
        }
    }

    #[tokio::test]
    async fn messages_come_in_the_order_they_were_sent() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let mut sent = Vec::new();
            for _ in 0..5 {
                let unit = store.unit().await;
                let rotation = Uuid::now_v7();
                unit.send(&RotationDue { rotation }).await.unwrap();
                unit.commit().await.unwrap();
                sent.push(rotation);
            }
            for rotation in sent {
                let leased = lease(&store, MINUTE).await.unwrap();
                assert!(leased.event.contains(&rotation.to_string()));
            }
        }
    }

    #[tokio::test]
    async fn a_lease_that_ended_brings_the_message_again_and_voids_the_first_receipt() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 1, Duration::ZERO).await;
            let first = lease(&store, Duration::ZERO).await.unwrap();
            let second = lease(&store, MINUTE).await.unwrap();
            assert_eq!(first.event, second.event);
            assert!(!extend(&store, first.receipt, Duration::ZERO).await.unwrap());
            assert!(!remove(&store, first.receipt).await.unwrap());
            assert_eq!(depth(&store).await.unwrap(), 1);
            assert!(remove(&store, second.receipt).await.unwrap());
            assert_eq!(depth(&store).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_message_given_back_is_due_at_once_and_wakes_who_waits() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 1, Duration::ZERO).await;
            let leased = lease(&store, MINUTE).await.unwrap();
            assert!(lease(&store, MINUTE).await.is_none());
            let changes = store.changes();
            assert!(
                extend(&store, leased.receipt, Duration::ZERO)
                    .await
                    .unwrap()
            );
            assert!(changes.has_changed().unwrap());
            assert!(lease(&store, MINUTE).await.is_some());
        }
    }

    #[tokio::test]
    async fn dates_further_ahead_than_any_delay_do_not_hold_a_message_back() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 1, Duration::ZERO).await;
            // The database's clock was stepped back by two hours since.
            let ahead = database_time(store.db()).await.unwrap() + 2 * HOUR;
            set(&store, outbox::Column::AvailableAt, ahead).await;
            assert!(lease(&store, MINUTE).await.is_some());
            assert!(lease(&store, MINUTE).await.is_none());
            set(&store, outbox::Column::LeasedUntil, ahead).await;
            assert!(lease(&store, MINUTE).await.is_some());
        }
    }
}
