//! The seam: how deliveries reach a worker and are settled.

use async_trait::async_trait;
use rekey_messages::{Event, Queue};
use rekey_store::{StoreError, outbox};
use tokio::sync::broadcast;

/// A transport that cannot be reached for now. Retrying helps.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The local transport lives in the store.
    #[error("the local transport: {0}")]
    Store(#[from] StoreError),
}

/// One delivery, at least once: the same may come again.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event as JSON; not yet looked at.
    pub body: String,
    /// What settles it.
    pub receipt: Receipt,
}

/// What settles a delivery.
#[derive(Debug, Clone, Copy)]
pub enum Receipt {
    /// A leased row of the outbox.
    Local(outbox::Receipt),
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect is committed, or its next attempt is a row.
    Done,
    /// It comes again at once, here or elsewhere.
    Return,
}

/// Carries messages from the outbox to workers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Waits for the next delivery of `queue`.
    ///
    /// # Errors
    /// [`BrokerError`] while the transport is out of reach.
    async fn receive(&self, queue: Queue) -> Result<Delivery, BrokerError>;

    /// Settles a delivery; `false` when it was no longer ours, and will be or was handled elsewhere.
    ///
    /// # Errors
    /// [`BrokerError`] while the transport is out of reach; the delivery then comes again.
    async fn settle(&self, receipt: Receipt, settlement: Settlement) -> Result<bool, BrokerError>;

    /// Says that a delivery is still being worked on. Called every few seconds.
    ///
    /// # Errors
    /// [`BrokerError`] while the transport is out of reach.
    async fn keep(&self, receipt: Receipt) -> Result<(), BrokerError>;

    /// Messages for every process, from now on.
    fn broadcasts(&self) -> broadcast::Receiver<Event>;
}
