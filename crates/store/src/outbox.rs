//! The outbox: leasing messages that are due, for the local transport and the relay.

use std::time::Duration;

use rekey_domain::MAX_DELAY;
use rekey_messages::Queue;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};

use crate::{Store, StoreError, database_time, entities::outbox};

/// A message leased for a while; it returns by itself when the lease ends.
#[derive(Debug, Clone)]
pub struct Leased {
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

/// Leases the oldest message that is due in `queue`.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn lease_next(
    store: &Store,
    queue: Queue,
    lasts: Duration,
) -> Result<Option<Leased>, StoreError> {
    // Looking first costs idle workers no write lock.
    let now = database_time(store.db()).await?;
    let due = outbox::Entity::find()
        .filter(is_due(queue, now))
        .limit(1)
        .one(store.db())
        .await?;
    if due.is_none() {
        return Ok(None);
    }
    let unit = store.begin(chrono::DateTime::UNIX_EPOCH).await?;
    let now = unit.database_time_in(Duration::ZERO).await?;
    let due = outbox::Entity::find()
        .filter(is_due(queue, now))
        .order_by_asc(outbox::Column::AvailableAt)
        .order_by_asc(outbox::Column::Id)
        .limit(1)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(unit.db())
        .await?;
    let Some(row) = due else { return Ok(None) };
    let receipt = Receipt {
        id: row.id,
        token: rand::random(),
    };
    outbox::Entity::update_many()
        .col_expr(outbox::Column::LeaseToken, Expr::value(receipt.token))
        .col_expr(
            outbox::Column::LeasedUntil,
            Expr::value(unit.database_time_in(lasts).await?),
        )
        .filter(outbox::Column::Id.eq(row.id))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(Some(Leased {
        receipt,
        event: row.event,
    }))
}

/// Due, and not leased. A date further ahead than any we set means the clock was stepped back.
fn is_due(queue: Queue, now: i64) -> Condition {
    let furthest = now + i64::try_from(MAX_DELAY.as_millis()).expect("an hour fits");
    let passed = |column: outbox::Column| {
        Condition::any()
            .add(column.lte(now))
            .add(column.gt(furthest))
    };
    Condition::all()
        .add(outbox::Column::Queue.eq(queue.to_string()))
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
    let unit = store.begin(chrono::DateTime::UNIX_EPOCH).await?;
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
    let unit = store.begin(chrono::DateTime::UNIX_EPOCH).await?;
    let updated = outbox::Entity::update_many()
        .col_expr(
            outbox::Column::LeasedUntil,
            Expr::value(unit.database_time_in(lasts).await?),
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

/// Takes all messages that no shared queue handles: those for every process, and facts for whoever
/// listens.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn take_broadcasts(store: &Store) -> Result<Vec<String>, StoreError> {
    let broadcast = || {
        Condition::any()
            .add(outbox::Column::Queue.is_null())
            .add(outbox::Column::Queue.eq(Queue::EveryProcess.to_string()))
    };
    let rows = outbox::Entity::find()
        .filter(broadcast())
        .order_by_asc(outbox::Column::Id)
        .all(store.db())
        .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let unit = store.begin(chrono::DateTime::UNIX_EPOCH).await?;
    let ids = rows.iter().map(|row| row.id);
    outbox::Entity::delete_many()
        .filter(outbox::Column::Id.is_in(ids))
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(rows.into_iter().map(|row| row.event).collect())
}

/// How many messages wait, leased ones included.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn depth(store: &Store) -> Result<u64, StoreError> {
    Ok(outbox::Entity::find().count(store.db()).await?)
}
