//! Exchanges, queues and their bindings, as `docs/messages/README.md` lists them.
//!
//! Whoever may configure declares all of it; others find it there.

use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use rekey_messages::{CATALOGUE, Exchange, Queue};
use uuid::Uuid;

use crate::BrokerError;

/// Deliveries of one message; then it is a dead letter. Attempts are counted in the store, not here.
pub(super) const DELIVERY_LIMIT: i64 = 100;
/// Dead letters have nowhere else to go; RabbitMQ 4 would drop them after 20 deliveries.
const DEAD_LETTER_LIMIT: i64 = 1_000_000;
const LONGEST_PREFIX: usize = 60;

/// What exchanges and queues are called here.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, BrokerError> {
        let readable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if prefix.len() > LONGEST_PREFIX || !prefix.chars().all(readable) {
            return Err(BrokerError::Options {
                what: "the prefix of the broker's names",
                expected: "at most 60 letters, digits, dots, hyphens and underscores",
            });
        }
        let prefix = prefix.to_owned();
        Ok(Self { prefix })
    }

    pub(super) fn exchange(&self, exchange: Exchange) -> String {
        self.prefixed(&exchange.to_string())
    }

    /// The name of a shared queue.
    pub(super) fn queue(&self, queue: Queue) -> String {
        self.prefixed(&format!("rekey.{queue}"))
    }

    /// An exchange and the queue behind it.
    pub(super) fn dead_letters(&self) -> String {
        self.prefixed("rekey.dead-letters")
    }

    /// What the names of the processes' own queues begin with.
    pub(super) fn processes(&self) -> String {
        self.prefixed("rekey.process.")
    }

    /// A name as it is at this broker.
    pub(super) fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// The queues that processes share.
const SHARED: [Queue; 5] = [
    Queue::Rotator,
    Queue::ReEncryptor,
    Queue::ReEncryptorUrgent,
    Queue::Requests,
    Queue::Reports,
];

/// Declares what is missing, if the user may. A user who may not finds out by the next step: consuming, binding or
/// publishing fails where a queue or an exchange is missing. Passive declarations would not show it earlier, as
/// RabbitMQ 4.2.6 and 4.3.0 refuse them to users who may not configure.
pub(super) async fn ensure(connection: &Connection, names: &Names) -> lapin::Result<()> {
    match declare(connection, names).await {
        Err(error) if is_refused(&error) => Ok(()),
        declared => declared,
    }
}

fn is_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(said) if said.get_id() == 403)
}

/// Declares everything; what is there already must be the same.
pub(super) async fn declare(connection: &Connection, names: &Names) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let dead_letters = names.dead_letters();
    for (exchange, kind) in [
        (names.exchange(Exchange::Workers), ExchangeKind::Topic),
        (names.exchange(Exchange::Requests), ExchangeKind::Topic),
        (dead_letters.clone(), ExchangeKind::Fanout),
    ] {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let none = FieldTable::default();
        channel
            .exchange_declare(exchange.into(), kind, durable, none)
            .await?;
    }
    let mut arguments = quorum(DEAD_LETTER_LIMIT);
    declare_queue(&channel, &dead_letters, arguments).await?;
    bind(&channel, &dead_letters, dead_letters.clone(), "").await?;
    for queue in SHARED {
        arguments = quorum(DELIVERY_LIMIT);
        insert(&mut arguments, "x-dead-letter-exchange", &dead_letters);
        insert(&mut arguments, "x-dead-letter-strategy", "at-least-once");
        // Says where a dead letter comes from: headers could be forged by who published it.
        insert(
            &mut arguments,
            "x-dead-letter-routing-key",
            &queue.to_string(),
        );
        // Without it the strategy silently falls back to at most once.
        insert(&mut arguments, "x-overflow", "reject-publish");
        declare_queue(&channel, &names.queue(queue), arguments).await?;
    }
    for entry in CATALOGUE {
        for queue in entry.queues().filter(|queue| queue.is_shared()) {
            let exchange = names.exchange(entry.route.exchange);
            let key = queue.routing_key(entry.name);
            bind(&channel, &names.queue(queue), exchange, &key).await?;
        }
    }
    // Everything sent there, reports too, as we refuse and audit what is not admitted.
    let requests = names.queue(Queue::Requests);
    bind(&channel, &requests, names.exchange(Exchange::Requests), "#").await
}

/// Deletes all that [`declare`] made; exchanges first, so that nothing is routed to what is going.
pub(super) async fn delete(connection: &Connection, names: &Names) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let dead_letters = names.dead_letters();
    for exchange in [
        names.exchange(Exchange::Workers),
        names.exchange(Exchange::Requests),
        dead_letters.clone(),
    ] {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.into(), options).await?;
    }
    let shared = SHARED.map(|queue| names.queue(queue));
    for queue in shared.into_iter().chain([dead_letters]) {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await?;
    }
    Ok(())
}

fn quorum(delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    insert(&mut arguments, "x-queue-type", "quorum");
    let limit = AMQPValue::LongLongInt(delivery_limit);
    arguments.insert("x-delivery-limit".into(), limit);
    arguments
}

fn insert(arguments: &mut FieldTable, name: &str, value: &str) {
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare(name.into(), durable, arguments)
        .await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: String, key: &str) -> lapin::Result<()> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.into(), exchange.into(), key.into(), options, none)
        .await
}

/// A queue that is there, and how many messages wait in it.
pub(super) async fn find(channel: &Channel, queue: String) -> lapin::Result<lapin::Queue> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let none = FieldTable::default();
    channel.queue_declare(queue.into(), passive, none).await
}

/// Declares this process's own queue, which ends with the connection, for what every process is told.
pub(super) async fn declare_own(channel: &Channel, names: &Names) -> lapin::Result<ShortString> {
    let queue = format!("{}{}", names.processes(), Uuid::now_v7());
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    channel
        .queue_declare(queue.as_str().into(), own, FieldTable::default())
        .await?;
    for entry in CATALOGUE {
        if entry.route.queue == Some(Queue::EveryProcess) {
            let exchange = names.exchange(entry.route.exchange);
            bind(channel, &queue, exchange, entry.name).await?;
        }
    }
    Ok(queue.into())
}
