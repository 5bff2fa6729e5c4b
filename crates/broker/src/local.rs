//! The local transport: workers lease rows of the outbox themselves.

use std::time::Duration;

use async_trait::async_trait;
use rekey_messages::{Event, Queue};
use rekey_store::{Store, outbox};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{BrokerError, Delivery, Receipt, Settlement, Transport};

/// Work of this process wakes at once; this finds what another process or a delay made due.
const POLL: Duration = Duration::from_millis(250);
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
        while !shutdown.is_cancelled() {
            match outbox::take_broadcasts(&self.store).await {
                Ok(events) => self.hand_on(&events),
                Err(error) => tracing::warn!(%error, "broadcasts wait until the store answers"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(POLL, changes.changed()) => {}
            }
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
