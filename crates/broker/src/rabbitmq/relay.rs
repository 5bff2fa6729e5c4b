//! The relay: ships rows of the outbox, and removes those that the broker confirmed (rule 1).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use rekey_messages::Queue;
use rekey_store::relay::{self, Block, Message};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{shared::Shared, topology};
use crate::BrokerError;

/// Messages shipped together: leased, published and removed with one statement each.
const BLOCK: u64 = 200;
/// From the first publish of a block to its last confirm. A publish may hang until the connection is given up.
const CONFIRM_WITHIN: Duration = Duration::from_secs(8);
/// Longer than that, so that no other relay ships messages that are still on their way. Not much longer, as the
/// messages of a relay that died wait this long.
const LEASE: Duration = Duration::from_secs(15);
/// What was not confirmed is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Work of this process wakes at once; this finds what another process or a delay made due.
const POLL: Duration = Duration::from_millis(250);
/// A message without a queue comes again sooner.
const FORGET_AFTER: Duration = Duration::from_secs(5);
const RETREAT: Duration = Duration::from_secs(1);
/// How long a block under way may take to end after shutdown.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);

/// Ships until `shutdown`, or until something breaks.
pub(super) async fn session(
    shared: &Shared,
    shutdown: &CancellationToken,
) -> Result<(), BrokerError> {
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let connection = shared.server.connect("publish").await?;
    let shipped = async {
        let explain = |error| shared.server.explain(&error);
        let ensured = topology::ensure(&connection, &shared.names).await;
        ensured.map_err(explain)?;
        let channel = connection.create_channel().await.map_err(explain)?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(explain)?;
        ship_until(shared, &connection, &channel, shutdown).await
    };
    let shipped = shipped.await;
    super::connection::close(&connection).await;
    shipped
}

async fn ship_until(
    shared: &Shared,
    connection: &Connection,
    channel: &Channel,
    shutdown: &CancellationToken,
) -> Result<(), BrokerError> {
    let mut changes = shared.store.changes();
    let mut stranded = Stranded::default();
    // Said once, however long it lasts.
    let mut is_away = false;
    while !shutdown.is_cancelled() {
        if !channel.status().connected() {
            return Err(shared.server.out_of_reach("the connection was lost"));
        }
        changes.mark_unchanged();
        let leased = relay::lease_block(&shared.store, BLOCK, LEASE).await;
        let was_away = std::mem::replace(&mut is_away, leased.is_err());
        let wait = match leased {
            Ok(block) if block.messages.is_empty() => POLL,
            Ok(block) => {
                let outcome = ship(shared, channel, &block).await?;
                stranded.note(&outcome);
                if stranded.wants_queues() {
                    mend(shared, connection).await;
                }
                stranded.tell(shared);
                continue;
            }
            Err(error) if was_away => {
                tracing::debug!(%error, "the store does not answer yet");
                RETREAT
            }
            Err(error) => {
                tracing::warn!(%error, "messages wait until the store answers");
                RETREAT
            }
        };
        stranded.tell(shared);
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = timeout(wait, changes.changed()) => {}
        }
    }
    Ok(())
}

/// Publishes a block, removes what was confirmed, and gives the rest back.
async fn ship(shared: &Shared, channel: &Channel, block: &Block) -> Result<Outcome, BrokerError> {
    let mut outcome = Outcome::default();
    let deadline = Instant::now() + CONFIRM_WITHIN;
    let published = publish(shared, channel, &block.messages, deadline, &mut outcome).await;
    let (confirmed, rest) = outcome.divide(&block.messages);
    let settled = async {
        relay::remove_all(&shared.store, block, &confirmed).await?;
        relay::postpone(&shared.store, block, &rest, AGAIN_AFTER).await
    };
    if let Err(error) = settled.await {
        tracing::warn!(%error, "what was shipped is shipped again when its lease ends");
    }
    published.map(|()| outcome)
}

/// Declares again what somebody deleted, where this user may.
async fn mend(shared: &Shared, connection: &Connection) {
    if let Err(error) = topology::ensure(connection, &shared.names).await {
        let error = shared.server.explain(&error);
        tracing::warn!(%error, "messages without a queue wait for it");
    }
}

/// Messages that found no queue, with the last time of that. They hold up no other message.
#[derive(Default)]
struct Stranded {
    seen: HashMap<Uuid, Instant>,
    mended: Option<Instant>,
}

impl Stranded {
    fn note(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        self.seen
            .extend(outcome.returned.iter().map(|id| (*id, now)));
        // A message that was not seen for a while has found its queue, through this relay or another.
        self.seen.retain(|id, seen| {
            let shipped = outcome.acked.contains(id) && !outcome.returned.contains(id);
            !shipped && now - *seen < FORGET_AFTER
        });
    }

    /// Whether to declare queues now; every now and then.
    fn wants_queues(&mut self) -> bool {
        let long_ago = |mended: Instant| mended.elapsed() > AGAIN_AFTER;
        let now = !self.seen.is_empty() && self.mended.is_none_or(long_ago);
        if now {
            self.mended = Some(Instant::now());
        }
        now
    }

    fn tell(&mut self, shared: &Shared) {
        self.seen.retain(|_, seen| seen.elapsed() < FORGET_AFTER);
        if self.seen.is_empty() {
            shared.publishing.is_well();
        } else {
            shared.publishing.is_ill(&BrokerError::NoQueue);
        }
    }
}

/// What the broker said of a block.
#[derive(Default)]
struct Outcome {
    acked: HashSet<Uuid>,
    returned: HashSet<Uuid>,
}

impl Outcome {
    /// Only messages that were acked and not returned have been shipped.
    fn divide(&self, messages: &[Message]) -> (Vec<Uuid>, Vec<Uuid>) {
        let ids = messages.iter().map(|message| message.id);
        ids.partition(|id| self.acked.contains(id) && !self.returned.contains(id))
    }

    fn note(&mut self, id: Uuid, confirmation: Confirmation) {
        if confirmation.is_ack() {
            self.acked.insert(id);
        }
        // An ack of several messages may attach a returned one to another's confirm, so the message's own id counts.
        let returned = confirmation.take_message();
        let own = returned
            .as_ref()
            .and_then(|it| it.properties.message_id().as_ref());
        self.returned
            .extend(own.and_then(|text| text.as_str().parse::<Uuid>().ok()));
    }
}

/// All are published before the first confirm is awaited.
async fn publish(
    shared: &Shared,
    channel: &Channel,
    messages: &[Message],
    deadline: Instant,
    outcome: &mut Outcome,
) -> Result<(), BrokerError> {
    let late = |_| {
        shared
            .server
            .out_of_reach("messages were not confirmed in time")
    };
    let mut confirms = Vec::new();
    let mut result = Ok(());
    for message in messages {
        match timeout_at(deadline, publish_one(shared, channel, message)).await {
            Ok(Ok(confirm)) => confirms.push((message.id, confirm)),
            Ok(Err(error)) => result = Err(shared.server.explain(&error)),
            Err(elapsed) => result = Err(late(elapsed)),
        }
        if result.is_err() {
            break;
        }
    }
    for (id, confirm) in confirms {
        match timeout_at(deadline, confirm).await {
            Ok(Ok(confirmation)) => outcome.note(id, confirmation),
            Ok(Err(error)) => result = result.and(Err(shared.server.explain(&error))),
            Err(elapsed) => result = result.and(Err(late(elapsed))),
        }
    }
    result
}

async fn publish_one(
    shared: &Shared,
    channel: &Channel,
    message: &Message,
) -> lapin::Result<PublisherConfirm> {
    let queue: Option<Queue> = message.queue.as_ref().and_then(|queue| queue.parse().ok());
    let options = BasicPublishOptions {
        mandatory: queue.is_some_and(Queue::is_shared),
        ..Default::default()
    };
    let properties = BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(2)
        .with_type(message.type_.as_str().into())
        .with_message_id(message.id.to_string().into());
    let exchange = shared.names.prefixed(&message.exchange);
    let key = match queue {
        Some(queue) => queue.routing_key(&message.type_),
        None => message.type_.clone(),
    };
    let (exchange, key, body) = (exchange.into(), key.into(), message.event.as_bytes());
    channel
        .basic_publish(exchange, key, options, body, properties)
        .await
}

#[cfg(test)]
mod tests {
    use lapin::message::{BasicReturnMessage, Delivery};

    use super::*;

    fn message(id: Uuid) -> Message {
        Message {
            id,
            exchange: "rekey".to_owned(),
            queue: Some("rotator".to_owned()),
            type_: "rekey.rotation.due.v1".to_owned(),
            event: "{}".to_owned(),
            available_at: 0,
            leased_until: 0,
            lease_token: 0,
        }
    }

    fn returned(id: Uuid) -> BasicReturnMessage {
        let mut delivery = Delivery::mock(0, "rekey".into(), "".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.to_string().into());
        BasicReturnMessage {
            delivery,
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
        }
    }

    #[test]
    fn only_what_was_acked_and_did_not_come_back_is_shipped() {
        let [shipped, back, nacked, silent] = std::array::from_fn(|_| Uuid::now_v7());
        let mut outcome = Outcome::default();
        outcome.note(shipped, Confirmation::Ack(None));
        outcome.note(back, Confirmation::Ack(Some(returned(back))));
        outcome.note(nacked, Confirmation::Nack(None));
        let (gone, rest) = outcome.divide(&[shipped, back, nacked, silent].map(message));
        assert_eq!((gone, rest), (vec![shipped], vec![back, nacked, silent]));
    }

    #[test]
    fn a_returned_message_is_known_by_its_own_id_whichever_confirm_it_came_with() {
        let [shipped, back] = std::array::from_fn(|_| Uuid::now_v7());
        let mut outcome = Outcome::default();
        // As lapin does it when one ack covers both.
        outcome.note(shipped, Confirmation::Ack(Some(returned(back))));
        outcome.note(back, Confirmation::Ack(None));
        let (gone, rest) = outcome.divide(&[shipped, back].map(message));
        assert_eq!((gone, rest), (vec![shipped], vec![back]));
    }

    #[test]
    fn confirms_that_were_not_asked_for_ship_nothing() {
        let id = Uuid::now_v7();
        let mut outcome = Outcome::default();
        outcome.note(id, Confirmation::NotRequested);
        assert_eq!(outcome.divide(&[message(id)]).0, Vec::<Uuid>::new());
    }
}
