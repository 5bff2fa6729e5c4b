//! The local transport: workers lease rows of the outbox themselves.

use std::time::Duration;

use async_trait::async_trait;
use rekey_messages::{Event, Queue};
use rekey_store::{
    Store,
    broadcasts::{self, Broadcasts},
    outbox,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{BrokerError, Delivery, Receipt, Settlement, Transport};

/// Work of this process wakes at once; this finds what another process or a delay made due.
const POLL: Duration = Duration::from_millis(250);
/// Every process removes old broadcasts; so often costs nothing.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// A delivery that nobody keeps comes again after this.
const LEASE: Duration = Duration::from_secs(30);

/// Deliveries straight from the store. Durable and restartable; needs no broker.
#[derive(Debug, Clone)]
pub struct LocalTransport {
    store: Store,
    broadcasts: broadcast::Sender<Event>,
}

impl LocalTransport {
    /// The transport of this store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            broadcasts: broadcast::Sender::new(256),
        }
    }

    /// Hands messages for every process to this one's subscribers, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut changes = self.store.changes();
        let mut unread = Broadcasts::default();
        let mut prunings = tokio::time::interval(PRUNE_EVERY);
        while !shutdown.is_cancelled() {
            match unread.next(&self.store).await {
                Ok(events) => self.hand_on(&events),
                Err(error) => tracing::warn!(%error, "broadcasts wait until the store answers"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(POLL, changes.changed()) => {}
                _ = prunings.tick() => self.prune().await,
            }
        }
    }

    async fn prune(&self) {
        if let Err(error) = broadcasts::prune(&self.store).await {
            tracing::warn!(%error, "old broadcasts are removed later");
        }
    }

    fn hand_on(&self, events: &[String]) {
        for event in events
            .iter()
            .filter_map(|event| Event::parse(event.as_bytes()).ok())
        {
            // Nobody listening is fine: a lost broadcast only delays until the next renewal.
            let _ = self.broadcasts.send(event);
        }
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn receive(&self, queue: Queue) -> Result<Delivery, BrokerError> {
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            if let Some(leased) = outbox::lease_next(&self.store, queue, LEASE).await? {
                return Ok(Delivery {
                    body: leased.event,
                    receipt: Receipt::Local(leased.receipt),
                });
            }
            let _ = tokio::time::timeout(POLL, changes.changed()).await;
        }
    }

    async fn settle(&self, receipt: Receipt, settlement: Settlement) -> Result<bool, BrokerError> {
        let Receipt::Local(receipt) = receipt;
        Ok(match settlement {
            Settlement::Done => outbox::remove(&self.store, receipt).await?,
            Settlement::Return => outbox::extend(&self.store, receipt, Duration::ZERO).await?,
        })
    }

    async fn keep(&self, receipt: Receipt) -> Result<(), BrokerError> {
        let Receipt::Local(receipt) = receipt;
        outbox::extend(&self.store, receipt, LEASE).await?;
        Ok(())
    }

    fn broadcasts(&self) -> broadcast::Receiver<Event> {
        self.broadcasts.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rekey_messages::{KeyringChanged, RotationDue};
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    /// Far longer than anything here takes, and shorter than a lease.
    const SOON: Duration = Duration::from_secs(10);

    async fn transport() -> (LocalTransport, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let store = Store::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        (LocalTransport::new(store), dir)
    }

    async fn send(transport: &LocalTransport) -> Uuid {
        let unit = transport.store.begin(DateTime::UNIX_EPOCH).await.unwrap();
        let rotation = Uuid::now_v7();
        unit.send(&RotationDue { rotation }).await.unwrap();
        unit.commit().await.unwrap();
        rotation
    }

    async fn receive(transport: &LocalTransport) -> Delivery {
        let received = tokio::time::timeout(SOON, transport.receive(Queue::Rotator)).await;
        received.expect("a delivery soon").unwrap()
    }

    async fn receives_nothing(transport: &LocalTransport) -> bool {
        let queue = transport.receive(Queue::Rotator);
        tokio::time::timeout(2 * POLL, queue).await.is_err()
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_commit() {
        let (transport, _dir) = transport().await;
        let waiting = tokio::spawn({
            let transport = transport.clone();
            async move { receive(&transport).await }
        });
        let rotation = send(&transport).await;
        let delivery = waiting.await.unwrap();
        let event = Event::parse(delivery.body.as_bytes()).unwrap();
        assert_eq!(event.message::<RotationDue>().unwrap().rotation, rotation);
    }

    #[tokio::test]
    async fn what_another_process_sent_is_found_too() {
        let (transport, _dir) = transport().await;
        let store = Store::connect(transport.store.url()).await.unwrap();
        let elsewhere = LocalTransport::new(store);
        let (delivery, rotation) = tokio::join!(receive(&transport), send(&elsewhere));
        assert!(delivery.body.contains(&rotation.to_string()));
    }

    #[tokio::test]
    async fn a_settled_message_is_gone_and_a_returned_one_comes_again() {
        let (transport, _dir) = transport().await;
        send(&transport).await;
        let first = receive(&transport).await;
        let returned = transport.settle(first.receipt, Settlement::Return).await;
        assert!(returned.unwrap());
        let second = receive(&transport).await;
        assert_eq!(first.body, second.body);
        let late = transport.settle(first.receipt, Settlement::Done).await;
        assert!(!late.unwrap(), "it was no longer the first's");
        let done = transport.settle(second.receipt, Settlement::Done).await;
        assert!(done.unwrap());
        assert_eq!(outbox::depth(&transport.store).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_message_being_worked_on_is_nobody_elses() {
        let (transport, _dir) = transport().await;
        send(&transport).await;
        let delivery = receive(&transport).await;
        transport.keep(delivery.receipt).await.unwrap();
        assert!(receives_nothing(&transport).await);
    }

    #[tokio::test]
    async fn messages_for_every_process_reach_each_who_listens_and_no_queue() {
        let (transport, _dir) = transport().await;
        let mut listeners = [transport.broadcasts(), transport.broadcasts()];
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (transport, shutdown) = (transport.clone(), shutdown.clone());
            async move { transport.run(shutdown).await }
        });
        let keyring = "phi".parse().unwrap();
        let changed = KeyringChanged { keyring };
        let unit = transport.store.begin(DateTime::UNIX_EPOCH).await.unwrap();
        unit.send(&changed).await.unwrap();
        unit.commit().await.unwrap();
        for listener in &mut listeners {
            let event = tokio::time::timeout(SOON, listener.recv()).await.unwrap();
            assert_eq!(event.unwrap().message::<KeyringChanged>().unwrap(), changed);
        }
        assert!(receives_nothing(&transport).await);
        shutdown.cancel();
        running.await.unwrap();
    }
}
