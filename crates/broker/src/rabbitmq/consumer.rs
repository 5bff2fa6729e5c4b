//! The consuming connection: deliveries on their way to the workers, broadcasts to whoever listens.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Connection, Consumer, message,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use rekey_messages::{Event, Queue};
use tokio::{sync::mpsc, task::JoinSet};

use super::{body::text, connection, dead_letters, shared::Shared, topology};
use crate::{BrokerError, Delivery, Receipt, transport::Kind};

/// How often the connection is looked at, beside what its streams say.
const LOOK: Duration = Duration::from_secs(1);

/// A connection and the channels whose deliveries are being worked on.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    channels: std::sync::Mutex<Vec<Channel>>,
}

/// The session of now, if there is one.
pub(super) type Kept = std::sync::Mutex<Option<Arc<Session>>>;

/// Consumes until something breaks.
pub(super) async fn session(shared: &Shared, kept: &Kept) -> Result<(), BrokerError> {
    let connection = shared.server.connect("consume").await?;
    let session = Arc::new(Session {
        connection,
        channels: std::sync::Mutex::default(),
    });
    keep(kept, Some(session.clone()));
    let mut pumps = JoinSet::new();
    let broken = match session.consume(shared, &mut pumps).await {
        Err(error) => shared.server.explain(&error),
        Ok(()) => {
            shared.consuming.is_well();
            session.watch(shared, &mut pumps).await
        }
    };
    keep(kept, None);
    connection::close(&session.connection).await;
    Err(broken)
}

fn keep(kept: &Kept, session: Option<Arc<Session>>) {
    *kept.lock().expect("no holder panics") = session;
}

impl Session {
    async fn consume(
        &self,
        shared: &Shared,
        pumps: &mut JoinSet<lapin::Result<()>>,
    ) -> lapin::Result<()> {
        let names = &shared.names;
        let takes_dead_letters = shared.queues.contains_key(&Queue::Rotator);
        topology::ensure(&self.connection, names).await?;
        for (queue, incoming) in &shared.queues {
            let channel = self.channel(incoming.prefetch).await?;
            let consumer = consume(&channel, names.queue(*queue), false).await?;
            pumps.spawn(hand_on(*queue, consumer, incoming.sender.clone()));
        }
        if takes_dead_letters {
            let channel = self.channel(dead_letters::PREFETCH).await?;
            let consumer = consume(&channel, names.dead_letters(), false).await?;
            pumps.spawn(dead_letters::file_all(consumer, shared.store.clone()));
        }
        let channel = self.channel(0).await?;
        let own = topology::declare_own(&channel, names).await?;
        let consumer = consume(&channel, own.to_string(), true).await?;
        pumps.spawn(tell_listeners(consumer, shared.broadcasts.clone()));
        Ok(())
    }

    /// How many messages wait in each queue that this process consumes. RabbitMQ 4.2.6 and 4.3.0 tell only users who
    /// may configure the queue, other versions every process that consumes it.
    pub(super) async fn depths(&self, shared: &Shared) -> lapin::Result<Vec<(Queue, u64)>> {
        let channel = self.connection.create_channel().await?;
        let mut depths = Vec::new();
        for queue in shared.queues.keys() {
            let there = topology::find(&channel, shared.names.queue(*queue)).await?;
            depths.push((*queue, u64::from(there.message_count())));
        }
        channel.close(200, "done".into()).await?;
        Ok(depths)
    }

    /// A channel of its own, so that each queue has its own prefetch.
    async fn channel(&self, prefetch: u16) -> lapin::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        let qos = BasicQosOptions { global: false };
        channel.basic_qos(prefetch, qos).await?;
        let mut channels = self.channels.lock().expect("no holder panics");
        channels.push(channel.clone());
        Ok(channel)
    }

    /// Waits until a stream ends or the connection is lost, and says why.
    async fn watch(&self, shared: &Shared, pumps: &mut JoinSet<lapin::Result<()>>) -> BrokerError {
        loop {
            match tokio::time::timeout(LOOK, pumps.join_next()).await {
                Ok(Some(Ok(Err(error)))) => return shared.server.explain(&error),
                Ok(_) => return shared.server.out_of_reach("a queue was deleted or closed"),
                Err(_) if !self.connection.status().connected() => {
                    return shared.server.out_of_reach("the connection was lost");
                }
                Err(_) => {}
            }
        }
    }
}

async fn consume(channel: &Channel, queue: String, no_ack: bool) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    let (tag, none) = ("".into(), FieldTable::default());
    channel
        .basic_consume(queue.into(), tag, options, none)
        .await
}

async fn hand_on(
    queue: Queue,
    mut consumer: Consumer,
    incoming: mpsc::UnboundedSender<Delivery>,
) -> lapin::Result<()> {
    while let Some(delivered) = consumer.next().await {
        // Nobody waits any more: the process is ending.
        let _ = incoming.send(delivery(queue, delivered?));
    }
    Ok(())
}

async fn tell_listeners(
    mut consumer: Consumer,
    listeners: tokio::sync::broadcast::Sender<Event>,
) -> lapin::Result<()> {
    while let Some(delivered) = consumer.next().await {
        if let Ok(event) = Event::parse(&delivered?.data) {
            // Nobody listening is fine: a lost broadcast only delays until the next renewal.
            let _ = listeners.send(event);
        }
    }
    Ok(())
}

fn delivery(queue: Queue, delivered: message::Delivery) -> Delivery {
    let user_id = delivered.properties.user_id().as_ref();
    Delivery {
        queue,
        body: text(&delivered.data),
        user_id: user_id.map(ToString::to_string),
        receipt: Receipt(Kind::RabbitMq {
            delivered_before: delivered_before(&delivered),
            acker: delivered.acker,
        }),
    }
}

/// How often the quorum queue has delivered it; used only for how long to wait before returning it.
fn delivered_before(delivered: &message::Delivery) -> u32 {
    let headers = delivered.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    let count = match count {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(AMQPValue::LongUInt(count)) => i64::from(*count),
        _ => i64::from(delivered.redelivered),
    };
    u32::try_from(count).unwrap_or(0)
}
