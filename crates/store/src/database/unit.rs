//! The unit of work: one transaction with its messages, committed or rolled back as a whole.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rekey_messages::{Event, Message, Route};
use sea_orm::{ActiveValue::Set, DatabaseTransaction, EntityTrait};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    StoreError,
    database::{time::in_milliseconds, wakes::Wakes},
    messaging::entities::outbox,
};

/// A transaction on the store. Dropped without [`Unit::commit`], nothing happened.
///
/// Never kept open while a source, a KMS or the network is asked (rule 3).
#[derive(Debug)]
pub struct Unit {
    tx: DatabaseTransaction,
    /// The database's, in milliseconds. Asked for once: a unit is short, and each question is a round trip.
    now: i64,
    wakes: Wakes,
    sent: AtomicBool,
    // Dropped after `tx`, so that the next writer finds the database free.
    _writer: Option<OwnedMutexGuard<()>>,
}

impl Unit {
    pub(crate) fn new(
        tx: DatabaseTransaction,
        now: i64,
        wakes: Wakes,
        writer: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        Self {
            tx,
            now,
            wakes,
            sent: AtomicBool::new(false),
            _writer: writer,
        }
    }

    /// The database's time when the unit began. It dates everything written here and decides everything decided here,
    /// never a process's own clock (rule 9).
    pub fn now(&self) -> DateTime<Utc> {
        in_milliseconds(self.now)
    }

    /// A new id with the database's time in it, so that ids are in the order of their times whoever makes them.
    pub fn new_id(&self) -> Uuid {
        let milliseconds = self.now.unsigned_abs();
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid()
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
        let event = Event::of(message, "/rekey", self.now());
        self.send_event(&event, message.route(), delay).await
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
            available_at: Set(self.database_time_in(delay)),
            leased_until: Set(0),
            lease_token: Set(0),
        };
        outbox::Entity::insert(row)
            .exec_without_returning(&self.tx)
            .await?;
        self.sent.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// [`now`](Self::now) in milliseconds, and `delay`.
    pub fn database_time_in(&self, delay: Duration) -> i64 {
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
        self.now.saturating_add(delay)
    }

    /// Makes everything of the unit true at once, and wakes what waits for it.
    ///
    /// # Errors
    /// After an error the outcome is unknown: read again before doing it again.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        self.wakes.wake(self.sent.into_inner());
        Ok(())
    }

    /// Commits without waking anyone, for changes that make no work.
    pub(crate) async fn commit_quietly(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Algorithm, KeyringPolicy, Purpose};
    use rekey_messages::{Queue, RotationDue};

    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
        keys::keyrings,
        messaging::outbox,
    };

    async fn create_and_send(unit: &Unit) {
        let (name, policy) = ("phi".parse().unwrap(), KeyringPolicy::default());
        keyrings::create(unit, &name, Purpose::Phi, Algorithm::default(), &policy)
            .await
            .unwrap();
        let rotation = Uuid::now_v7();
        unit.send(&RotationDue { rotation }).await.unwrap();
    }

    async fn counts(store: &Store) -> (usize, u64) {
        let keyrings = keyrings::all(store.db()).await.unwrap().len();
        (keyrings, outbox::depth(store).await.unwrap())
    }

    #[tokio::test]
    async fn a_unit_dropped_without_commit_leaves_nothing_and_sends_nothing() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            create_and_send(&unit).await;
            drop(unit);
            assert_eq!(counts(&store).await, (0, 0));
            let leased = outbox::lease_next(&store, &[Queue::Rotator], Duration::ZERO).await;
            assert!(leased.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn what_a_unit_wrote_and_sent_is_there_only_after_its_commit() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            create_and_send(&unit).await;
            let elsewhere = store.another().await;
            assert_eq!(counts(&elsewhere).await, (0, 0));
            unit.commit().await.unwrap();
            assert_eq!(counts(&elsewhere).await, (1, 1));
        }
    }

    #[tokio::test]
    async fn a_dropped_unit_leaves_the_database_free_for_every_process() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            drop(store.unit().await);
            for writer in [&store.another().await, &*store] {
                let unit = writer.begin().await.unwrap();
                create_and_send(&unit).await;
            }
        }
    }

    #[tokio::test]
    async fn a_commit_wakes_who_waits_for_work_and_a_dropped_unit_does_not() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let mut changes = store.changes();
            // A listener that has just connected wakes everyone once, as it may have missed something.
            while matches!(kind, Kind::Postgres) && store.listeners().await == 0 {}
            let quiet = std::time::Duration::from_millis(200);
            while tokio::time::timeout(quiet, changes.changed()).await.is_ok() {}
            drop(store.unit().await);
            assert!(!changes.has_changed().unwrap());
            store.unit().await.commit().await.unwrap();
            assert!(changes.has_changed().unwrap());
        }
    }
}
