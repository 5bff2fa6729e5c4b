//! The unit of work: one transaction with its messages, committed or rolled back as a whole.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_messages::{Event, Message, Route};
use sea_orm::{ActiveValue::Set, DatabaseTransaction, EntityTrait};
use tokio::sync::{OwnedMutexGuard, watch};
use uuid::Uuid;

use crate::{StoreError, database_time, entities::outbox};

/// A transaction on the store. Dropped without [`Unit::commit`], nothing happened.
///
/// Never kept open while a source, a KMS or the network is asked (rule 3).
#[derive(Debug)]
pub struct Unit {
    tx: DatabaseTransaction,
    now: DateTime<Utc>,
    changed: watch::Sender<u64>,
    // Dropped after `tx`, so that the next writer finds the database free.
    _writer: Option<OwnedMutexGuard<()>>,
}

impl Unit {
    pub(crate) fn new(
        tx: DatabaseTransaction,
        now: DateTime<Utc>,
        changed: watch::Sender<u64>,
        writer: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        Self {
            tx,
            now,
            changed,
            _writer: writer,
        }
    }

    /// The time that stamps everything written here.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The transaction, for reading within it.
    pub fn db(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// Sends a message when the unit commits (rule 1).
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn send<M: Message>(&self, message: &M) -> Result<(), StoreError> {
        self.send_after(message, Duration::ZERO).await
    }

    /// Sends a message when the unit has committed and `delay` has passed.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn send_after<M: Message>(
        &self,
        message: &M,
        delay: Duration,
    ) -> Result<(), StoreError> {
        self.send_event(&Event::of(message, "/rekey", self.now), M::ROUTE, delay)
            .await
    }

    /// Sends an event as it is: one from outside, or the next attempt at one.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn send_event(
        &self,
        event: &Event,
        route: Route,
        delay: Duration,
    ) -> Result<(), StoreError> {
        let row = outbox::ActiveModel {
            id: Set(Uuid::now_v7()),
            exchange: Set(route.exchange.to_string()),
            queue: Set(route.queue.map(|queue| queue.to_string())),
            type_: Set(event.type_.clone()),
            event: Set(event.to_json()),
            available_at: Set(self.database_time_in(delay).await?),
            leased_until: Set(0),
            lease_token: Set(0),
        };
        outbox::Entity::insert(row)
            .exec_without_returning(&self.tx)
            .await?;
        Ok(())
    }

    /// The database's time in milliseconds, `delay` from now.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn database_time_in(&self, delay: Duration) -> Result<i64, StoreError> {
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
        Ok(database_time(&self.tx).await?.saturating_add(delay))
    }

    /// Makes everything of the unit true at once, and wakes what waits for it in this process.
    ///
    /// # Errors
    /// After an error the outcome is unknown: read again before doing it again.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Commits without waking anyone, for changes that make no work.
    pub(crate) async fn commit_quietly(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}
