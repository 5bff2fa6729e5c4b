//! The transport over RabbitMQ: rows of the outbox are shipped with confirms, deliveries are acked after commit.
//!
//! Two connections, one to publish and one to consume, as a broker that is short of memory stops publishers. Each is
//! one loop: connect, see that the topology is there, work until something breaks, wait, begin again. So a lost
//! connection, a closed channel and a deleted queue go the same way.

mod body;
mod connection;
mod consumer;
mod dead_letters;
mod grants;
mod health;
mod relay;
mod shared;
mod topology;
mod wire;

use std::{fmt, future::poll_fn, task::Poll, time::Duration};

use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use rekey_messages::{Event, Queue};
use rekey_store::Store;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use self::{
    connection::Server,
    health::Health,
    shared::{Incoming, Shared},
    topology::Names,
};
use crate::{BrokerError, Delivery, Receipt, Settlement, Transport, transport::Kind};

pub use self::grants::{Grant, TopicGrant, grants};

/// How long to wait before a delivery is returned for the first time, and twice as long each further time: a queue
/// delivers it again at once, and each delivery counts towards its limit.
const FIRST_RETURN: Duration = Duration::from_millis(100);
const LONGEST_RETURN: Duration = Duration::from_secs(60);
/// A settlement that is not sent by then will not be.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// How this process uses RabbitMQ.
#[derive(Clone, Default)]
pub struct RabbitMqOptions {
    /// `amqp://` or `amqps://`, with user and password; the heartbeat is 10 s unless it says otherwise.
    pub url: String,
    /// Put before the name of each exchange and queue.
    pub prefix: String,
    /// What RabbitMQ's own pages call the connections.
    pub name: String,
    /// The queues that this process consumes, each with how many deliveries it holds at once.
    pub consume: Vec<(Queue, u16)>,
}

// The URL holds a password.
impl fmt::Debug for RabbitMqOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqOptions")
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("consume", &self.consume)
            .finish_non_exhaustive()
    }
}

/// The transport over RabbitMQ. [`RabbitMq::run`] does the work; dropped, its connections close.
#[derive(Debug)]
pub struct RabbitMq {
    shared: Shared,
    /// What deliveries of this session are settled on; outlives [`RabbitMq::run`], so that workers may end.
    kept: consumer::Kept,
}

impl RabbitMq {
    /// The transport of this process; nothing is connected yet.
    ///
    /// # Errors
    /// [`BrokerError::Options`] for a URL or prefix that cannot be used.
    pub fn new(options: &RabbitMqOptions, store: Store) -> Result<Self, BrokerError> {
        let incoming = |&(queue, prefetch): &(Queue, u16)| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let incoming = Incoming {
                prefetch,
                sender,
                receiver: Mutex::new(receiver),
            };
            (queue, incoming)
        };
        let shared = Shared {
            server: Server::parse(&options.url, &options.name)?,
            names: Names::new(&options.prefix)?,
            store,
            queues: options.consume.iter().map(incoming).collect(),
            broadcasts: broadcast::Sender::new(256),
            publishing: Health::new("publishing"),
            consuming: Health::new("consuming"),
        };
        let kept = consumer::Kept::default();
        Ok(Self { shared, kept })
    }

    /// Declares every exchange and queue, once, as a user who may configure them.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when the user may not, or something is there and declared otherwise.
    pub async fn declare(options: &RabbitMqOptions) -> Result<(), BrokerError> {
        let server = Server::parse(&options.url, &options.name)?;
        let names = Names::new(&options.prefix)?;
        let connection = server.connect("declare").await?;
        let declared = topology::declare(&connection, &names).await;
        let declared = declared.map_err(|error| server.explain(&error));
        connection::close(&connection).await;
        declared
    }

    /// Deletes every exchange and queue that [`RabbitMq::declare`] made, and the messages in them, as a
    /// user who may configure them. What is gone already is fine.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when the user may not.
    pub async fn delete(options: &RabbitMqOptions) -> Result<(), BrokerError> {
        let server = Server::parse(&options.url, &options.name)?;
        let names = Names::new(&options.prefix)?;
        let connection = server.connect("delete").await?;
        let deleted = topology::delete(&connection, &names).await;
        let deleted = deleted.map_err(|error| server.explain(&error));
        connection::close(&connection).await;
        deleted
    }

    async fn next(&self, queue: Queue) -> Result<Delivery, BrokerError> {
        let incoming = self.shared.queues.get(&queue);
        let incoming = incoming.ok_or(BrokerError::NotConsumed(queue))?;
        let mut receiver = incoming.receiver.lock().await;
        loop {
            let delivery = receiver.recv().await.expect("the sender is beside it");
            // Deliveries of a lost connection come again, so they are skipped.
            if matches!(&delivery.receipt.0, Kind::RabbitMq { acker, .. } if acker.usable()) {
                return Ok(delivery);
            }
        }
    }

    /// The virtual host that a URL names.
    ///
    /// # Errors
    /// [`BrokerError::Options`] for a URL that cannot be used.
    pub fn vhost(url: &str) -> Result<String, BrokerError> {
        Ok(Server::parse(url, "")?.vhost().to_owned())
    }

    /// Waits until both connections work.
    pub async fn ready(&self) {
        tokio::join!(self.shared.publishing.well(), self.shared.consuming.well());
    }
}

#[async_trait]
impl Transport for RabbitMq {
    async fn run(&self, shutdown: CancellationToken) {
        let publishing = self
            .shared
            .publishing
            .kept_up(|| relay::session(&self.shared, &shutdown));
        let consuming = self
            .shared
            .consuming
            .kept_up(|| consumer::session(&self.shared, &self.kept));
        tokio::join!(
            shutdown.run_until_cancelled(consuming),
            // Ends by itself: a block that is being shipped is seen to its end.
            async {
                tokio::select! {
                    () = publishing => {}
                    () = async { shutdown.cancelled().await; tokio::time::sleep(relay::END_WITHIN).await } => {}
                }
            }
        );
    }

    async fn receive(&self, queues: &[Queue]) -> Result<Delivery, BrokerError> {
        let next = queues.iter().map(|queue| Box::pin(self.next(*queue)));
        let mut next: Vec<_> = next.collect();
        // In order, so that if several queues have something, the first one is served.
        poll_fn(|context| {
            let mut polled = next.iter_mut().map(|next| next.as_mut().poll(context));
            polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    async fn settle(&self, receipt: Receipt, settlement: Settlement) -> Result<bool, BrokerError> {
        let Kind::RabbitMq {
            acker,
            delivered_before,
        } = receipt.0
        else {
            return Ok(false);
        };
        let settling = async {
            match settlement {
                Settlement::Done => acker.ack(BasicAckOptions::default()).await,
                Settlement::Return => {
                    // Not `nack`: RabbitMQ 4.3 does not count it.
                    acker.reject(BasicRejectOptions { requeue: true }).await
                }
            }
        };
        if settlement == Settlement::Return {
            tokio::time::sleep(return_delay(delivered_before)).await;
        }
        match tokio::time::timeout(SETTLE_WITHIN, settling).await {
            Ok(settled) => settled.map_err(|error| self.shared.server.explain(&error)),
            Err(_) => Err(self
                .shared
                .server
                .out_of_reach("a settlement was not sent in time")),
        }
    }

    /// Nothing to do: the broker sees it by the connection.
    async fn keep(&self, _: Receipt) -> Result<(), BrokerError> {
        Ok(())
    }

    fn broadcasts(&self) -> broadcast::Receiver<Event> {
        self.shared.broadcasts.subscribe()
    }

    async fn depths(&self) -> Vec<(Queue, u64)> {
        let session = self.kept.lock().expect("no holder panics").clone();
        match session {
            Some(session) => session.depths(&self.shared).await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    fn health(&self) -> Result<(), String> {
        self.shared.publishing.now()?;
        self.shared.consuming.now()
    }
}

fn return_delay(delivered_before: u32) -> Duration {
    let doubled = FIRST_RETURN.saturating_mul(1 << delivered_before.min(16));
    doubled.min(LONGEST_RETURN)
}
