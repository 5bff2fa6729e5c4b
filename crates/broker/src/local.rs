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

use crate::{BrokerError, Delivery, Receipt, Settlement, Transport, transport::Kind};

/// Work of this process wakes at once; this finds what another process or a delay made due.
const POLL: Duration = Duration::from_millis(250);
/// Every process removes old broadcasts; so often costs nothing.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// A delivery that nobody keeps comes again after this.
const LEASE: Duration = Duration::from_secs(15);

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
    /// Hands messages for every process to this one's subscribers.
    async fn run(&self, shutdown: CancellationToken) {
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

    async fn receive(&self, queues: &[Queue]) -> Result<Delivery, BrokerError> {
        if queues.iter().all(|queue| queue.is_from_outside()) {
            // Nobody outside reaches this transport.
            return std::future::pending().await;
        }
        let mut changes = self.store.changes();
        loop {
            changes.mark_unchanged();
            if let Some(leased) = outbox::lease_next(&self.store, queues, LEASE).await? {
                return Ok(Delivery {
                    queue: leased.queue,
                    body: leased.event,
                    user_id: None,
                    receipt: Receipt(Kind::Local(leased.receipt)),
                });
            }
            let _ = tokio::time::timeout(POLL, changes.changed()).await;
        }
    }

    async fn settle(&self, receipt: Receipt, settlement: Settlement) -> Result<bool, BrokerError> {
        let Kind::Local(receipt) = receipt.0 else {
            return Ok(false);
        };
        Ok(match settlement {
            Settlement::Done => outbox::remove(&self.store, receipt).await?,
            Settlement::Return => outbox::extend(&self.store, receipt, Duration::ZERO).await?,
        })
    }

    async fn keep(&self, receipt: Receipt) -> Result<(), BrokerError> {
        if let Kind::Local(receipt) = receipt.0 {
            outbox::extend(&self.store, receipt, LEASE).await?;
        }
        Ok(())
    }

    fn broadcasts(&self) -> broadcast::Receiver<Event> {
        self.broadcasts.subscribe()
    }

    /// Nothing to report: the transport is as well as the store, and the store reports for itself.
    async fn depths(&self) -> Vec<(Queue, u64)> {
        outbox::depths(&self.store).await.unwrap_or_default()
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rekey_messages::RotationDue;
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
        let unit = transport.store.begin().await.unwrap();
        let rotation = Uuid::now_v7();
        unit.send(&RotationDue { rotation }).await.unwrap();
        unit.commit().await.unwrap();
        rotation
    }

    async fn receive(transport: &LocalTransport) -> Delivery {
        let received = tokio::time::timeout(SOON, transport.receive(&[Queue::Rotator])).await;
        received.expect("a delivery soon").unwrap()
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
}
