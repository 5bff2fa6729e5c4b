//! The seam: how deliveries reach a worker and are settled.

use async_trait::async_trait;
use lapin::Acker;
use rekey_messages::{Event, Queue};
use rekey_store::{StoreError, outbox};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// A transport that does not carry messages for now.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The local transport lives in the store.
    #[error("the local transport: {0}")]
    Store(#[from] StoreError),
    /// RabbitMQ does not answer, or ended the connection. Retrying helps.
    #[error("RabbitMQ at {place} is out of reach: {why}; it is tried until it answers")]
    OutOfReach {
        /// Its host and port.
        place: String,
        /// What happened.
        why: String,
    },
    /// RabbitMQ answers and does not let us. A person is needed.
    #[error("RabbitMQ at {place} refuses: {why}; {remedy}")]
    Refused {
        /// Its host and port.
        place: String,
        /// What it said.
        why: String,
        /// What helps.
        remedy: &'static str,
    },
    /// Messages that must be handled find no queue; they stay in the outbox.
    #[error(
        "messages found no queue at RabbitMQ and stay in the outbox; run rekey migrate as a user who may configure"
    )]
    NoQueue,
    /// What was configured cannot be used.
    #[error("{what}: expected {expected}")]
    Options {
        /// Which option.
        what: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// This process did not say that it consumes this queue.
    #[error("this process does not consume the queue {0}")]
    NotConsumed(Queue),
}

impl BrokerError {
    /// Whether the same may succeed without anybody doing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::OutOfReach { .. } | Self::NoQueue => true,
            Self::Refused { .. } | Self::Options { .. } | Self::NotConsumed(_) => false,
        }
    }
}

/// One delivery, at least once: the same may come again.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The queue it came through.
    pub queue: Queue,
    /// The event as JSON; not yet looked at. What is far too long is cut, and so cannot be read.
    pub body: String,
    /// The broker's user who published it, checked by the broker; none from the local transport.
    pub user_id: Option<String>,
    /// What settles it.
    pub receipt: Receipt,
}

/// What settles a delivery.
#[derive(Debug, Clone)]
pub struct Receipt(pub(crate) Kind);

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A leased row of the outbox.
    Local(outbox::Receipt),
    /// An unsettled delivery of a channel.
    RabbitMq {
        acker: Acker,
        /// How often it was delivered before.
        delivered_before: u32,
    },
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect is committed, or its next attempt is a row.
    Done,
    /// It comes again soon, here or elsewhere.
    Return,
}

/// Carries messages from the outbox to workers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Carries messages until `shutdown`, through whatever outage. What was delivered can be settled
    /// for as long as `self` lives.
    async fn run(&self, shutdown: CancellationToken);

    /// Waits for the next delivery of the first of `queues` that has one, through whatever outage.
    ///
    /// # Errors
    /// [`BrokerError`] while the transport is out of reach.
    async fn receive(&self, queues: &[Queue]) -> Result<Delivery, BrokerError>;

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

    /// Whether messages travel now; if not, why.
    ///
    /// # Errors
    /// What is wrong, and what helps.
    fn health(&self) -> Result<(), String>;

    /// How many messages wait in each queue, as far as that is known now.
    async fn depths(&self) -> Vec<(Queue, u64)>;
}
