//! Blocks of the outbox for the relay to a message broker: leased, shipped, and removed together.

use std::time::Duration;

use rekey_messages::Queue;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};
use uuid::Uuid;

pub use crate::messaging::entities::outbox::Model as Message;
use crate::{
    Store, StoreError, Unit, database_time,
    messaging::{entities::outbox, outbox::due},
};

/// Messages that one relay has leased together; they return by themselves when the lease ends.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    token: i64,
}

/// Leases the oldest messages that are due, `limit` at most: those for every process first, as they say that a key is
/// stopped, then the others, whatever their queue.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn lease_block(store: &Store, limit: u64, lasts: Duration) -> Result<Block, StoreError> {
    // Looking first costs idle relays no write lock.
    let looked_at = database_time(store.db()).await?;
    let first = outbox::Entity::find().filter(due(looked_at)).limit(1);
    if first.one(store.db()).await?.is_none() {
        return Ok(Block::default());
    }
    let unit = store.begin_forgettable().await?;
    let now = unit.database_time_in(Duration::ZERO);
    let mut messages = oldest(&unit, due(now).add(is_for_every_process()), limit).await?;
    let room = limit.saturating_sub(messages.len() as u64);
    let others = due(now).add(is_for_every_process().not());
    messages.extend(oldest(&unit, others, room).await?);
    let token = rand::random();
    let until = unit.database_time_in(lasts);
    outbox::Entity::update_many()
        .col_expr(outbox::Column::LeaseToken, Expr::value(token))
        .col_expr(outbox::Column::LeasedUntil, Expr::value(until))
        .filter(outbox::Column::Id.is_in(messages.iter().map(|message| message.id)))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(Block { messages, token })
}

/// The queue of facts is null, which is not equal to anything and not unequal either.
fn is_for_every_process() -> Condition {
    let every = outbox::Column::Queue.eq(Queue::EveryProcess.to_string());
    Condition::all()
        .add(outbox::Column::Queue.is_not_null())
        .add(every)
}

async fn oldest(unit: &Unit, which: Condition, limit: u64) -> Result<Vec<Message>, StoreError> {
    let messages = outbox::Entity::find()
        .filter(which)
        .order_by_asc(outbox::Column::AvailableAt)
        .order_by_asc(outbox::Column::Id)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(unit.db())
        .await?;
    Ok(messages)
}

/// Those of `ids` that are still ours: a lease that ended may have passed to another relay.
fn ours(block: &Block, ids: &[Uuid]) -> Condition {
    Condition::all()
        .add(outbox::Column::Id.is_in(ids.iter().copied()))
        .add(outbox::Column::LeaseToken.eq(block.token))
}

/// Removes messages that were shipped, in one statement; returns how many.
///
/// # Errors
/// [`StoreError`] of the database; the messages are then shipped again when the lease ends.
pub async fn remove_all(store: &Store, block: &Block, ids: &[Uuid]) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let unit = store.begin_forgettable().await?;
    let removed = outbox::Entity::delete_many()
        .filter(ours(block, ids))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(removed.rows_affected)
}

/// Gives messages back that could not be shipped; they are due again after `delay`.
///
/// # Errors
/// [`StoreError`] of the database; the messages then wait for the end of the lease.
pub async fn postpone(
    store: &Store,
    block: &Block,
    ids: &[Uuid],
    delay: Duration,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let unit = store.begin_forgettable().await?;
    let available_at = unit.database_time_in(delay);
    outbox::Entity::update_many()
        .col_expr(outbox::Column::AvailableAt, Expr::value(available_at))
        .col_expr(outbox::Column::LeasedUntil, Expr::value(0))
        .filter(ours(block, ids))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rekey_domain::RotationKind;
    use rekey_messages::{KeyringChanged, RotationCompleted, RotationDue};

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore},
        messaging::outbox::depth,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    async fn send(store: &TestStore, count: usize) {
        let unit = store.unit().await;
        for _ in 0..count {
            let rotation = Uuid::now_v7();
            unit.send(&RotationDue { rotation }).await.unwrap();
        }
        unit.commit().await.unwrap();
    }

    fn ids(block: &Block) -> Vec<Uuid> {
        block.messages.iter().map(|message| message.id).collect()
    }

    #[tokio::test]
    async fn a_block_holds_messages_for_every_process_and_facts_too() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            let keyring = "phi".parse().unwrap();
            unit.send(&KeyringChanged { keyring }).await.unwrap();
            let completed = RotationCompleted {
                rotation: Uuid::now_v7(),
                key: "phi/2".parse().unwrap(),
                kind: RotationKind::default(),
            };
            unit.send(&completed).await.unwrap();
            unit.commit().await.unwrap();
            send(&store, 1).await;
            let block = lease_block(&store, 10, MINUTE).await.unwrap();
            let queues: HashSet<_> = block.messages.iter().map(|m| m.queue.clone()).collect();
            let expected = [None, Some("every-process".into()), Some("rotator".into())];
            assert_eq!(queues, HashSet::from(expected));
        }
    }

    #[tokio::test]
    async fn what_every_process_is_told_goes_before_all_that_waits() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 20).await;
            let unit = store.unit().await;
            let keyring = "phi".parse().unwrap();
            unit.send(&KeyringChanged { keyring }).await.unwrap();
            unit.commit().await.unwrap();
            let block = lease_block(&store, 10, MINUTE).await.unwrap();
            assert_eq!(block.messages.len(), 10);
            let first = block.messages[0].queue.as_deref();
            assert_eq!(first, Some("every-process"));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn relays_at_work_together_never_lease_the_same_message() {
        const MESSAGES: usize = 100;
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, MESSAGES).await;
            let relays = [
                (*store).clone(),
                store.another().await,
                store.another().await,
            ];
            let relays = relays.map(|store| {
                tokio::spawn(async move {
                    let mut leased = Vec::new();
                    loop {
                        let block = lease_block(&store, 7, MINUTE).await.unwrap();
                        if block.messages.is_empty() {
                            return leased;
                        }
                        leased.extend(ids(&block));
                    }
                })
            });
            let mut leased = Vec::new();
            for relay in relays {
                leased.extend(relay.await.unwrap());
            }
            assert_eq!(leased.len(), MESSAGES);
            assert_eq!(leased.iter().collect::<HashSet<_>>().len(), MESSAGES);
        }
    }

    #[tokio::test]
    async fn what_was_shipped_is_removed_and_the_rest_comes_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 3).await;
            let block = lease_block(&store, 10, MINUTE).await.unwrap();
            let all = ids(&block);
            assert_eq!(remove_all(&store, &block, &all[..2]).await.unwrap(), 2);
            let rest = postpone(&store, &block, &all[2..], Duration::ZERO).await;
            rest.unwrap();
            let again = lease_block(&store, 10, MINUTE).await.unwrap();
            assert_eq!(ids(&again), all[2..]);
        }
    }

    #[tokio::test]
    async fn a_block_whose_lease_passed_to_another_removes_nothing() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            send(&store, 2).await;
            let late = lease_block(&store, 10, Duration::ZERO).await.unwrap();
            let block = lease_block(&store, 10, MINUTE).await.unwrap();
            assert_eq!(ids(&late), ids(&block));
            assert_eq!(remove_all(&store, &late, &ids(&late)).await.unwrap(), 0);
            assert_eq!(depth(&store).await.unwrap(), 2);
        }
    }
}
