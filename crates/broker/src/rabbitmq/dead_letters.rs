//! What the broker gave up, such as a message whose delivery limit is spent, becomes a row of `dead_letter`.

use std::time::Duration;

use futures::StreamExt;
use lapin::{Consumer, message::Delivery, options::BasicAckOptions, types::AMQPValue};
use rekey_messages::{Event, KeyCompromised, Message, Queue};
use rekey_store::{Store, StoreError, dead_letters, inbox};

use super::body::text;

pub(super) const PREFETCH: u16 = 10;
/// Marks in the inbox that a letter was filed.
const HANDLER: &str = "broker.dead-letter";
const RETREAT: Duration = Duration::from_secs(1);
const LONGEST_RETREAT: Duration = Duration::from_secs(30);

/// Files letters one by one; each waits until the store takes it.
pub(super) async fn file_all(mut consumer: Consumer, store: Store) -> lapin::Result<()> {
    while let Some(letter) = consumer.next().await {
        let letter = letter?;
        let mut retreat = RETREAT;
        while let Err(error) = file(&store, &letter).await {
            tracing::warn!(%error, "a dead letter waits until the store takes it");
            tokio::time::sleep(retreat).await;
            retreat = (2 * retreat).min(LONGEST_RETREAT);
        }
        letter.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn file(store: &Store, letter: &Delivery) -> Result<(), StoreError> {
    // What is of no queue of ours is not trusted, as requests are not.
    let queue = letter.routing_key.as_str().parse();
    let queue = queue.unwrap_or(Queue::Requests);
    let reason = header(letter, "x-first-death-reason").unwrap_or_default();
    let error = format!("RabbitMQ gave it up: {}", known(&reason));
    tracing::error!(%queue, error, "given up; see rekey dead-letters list");
    let unit = store.begin().await?;
    let event = Event::parse(&letter.data).ok();
    if let Some(event) = &event {
        // A letter that was filed and not acked comes again.
        if !inbox::first_sight(&unit, event, HANDLER).await? {
            return Ok(());
        }
    }
    let type_ = event.map_or_else(|| "unreadable".to_owned(), |event| event.type_);
    dead_letters::file(&unit, queue, &type_, &kept(&type_, &letter.data), &error).await?;
    unit.commit().await
}

/// What is kept of a letter. A report's reason may hold anything, so it is kept only sealed, and not here.
fn kept(type_: &str, data: &[u8]) -> String {
    if type_ != KeyCompromised::TYPE {
        return text(data);
    }
    let Ok(mut event) = Event::parse(data) else {
        return String::new();
    };
    let key = event.data["key"].as_str().map(str::to_owned);
    event.data = serde_json::json!({ "key": key, "reason": "withheld" });
    serde_json::to_string(&event).unwrap_or_default()
}

/// The reasons that RabbitMQ has. Whoever publishes a letter itself may give any.
fn known(reason: &str) -> &'static str {
    let reasons = ["rejected", "expired", "maxlen", "delivery_limit"];
    let known = reasons.into_iter().find(|known| *known == reason);
    known.unwrap_or("unknown")
}

fn header(letter: &Delivery, name: &str) -> Option<String> {
    let headers = letter.properties.headers().as_ref()?;
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
