//! What the broker gives up is a row.

use futures::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::FieldTable,
};
use rekey_domain::KeyId;
use rekey_messages::{BatchReady, Queue};
use rekey_store::dead_letters;
use uuid::Uuid;

use crate::world::{Rabbit, World, send, until};

/// Takes whatever is in the queue and gives it back at once, as a worker that cannot do anything.
async fn refuse_all(url: String, queue: String) -> lapin::Result<()> {
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel
        .basic_consume(queue.into(), "".into(), options, none)
        .await?;
    while let Some(delivery) = consumer.next().await {
        let again = BasicRejectOptions { requeue: true };
        delivery?.reject(again).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_delivery_limit_is_spent_becomes_a_row_once() {
    let world = Rabbit::new().await;
    let _process = world.process(&[Queue::Rotator]).await;
    let batch = BatchReady {
        batch: Uuid::now_v7(),
        rotation: Uuid::now_v7(),
        generation: 1,
        target: KeyId::new(7),
        urgent: false,
    };
    send(world.store(), &batch).await;
    let queue = world.name("rekey.re-encryptor");
    let refusing = tokio::spawn(refuse_all(world.broker.url(), queue));
    until("there is a dead letter", async || {
        !dead_letters::open(world.store().db())
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    refusing.abort();
    let dead = dead_letters::open(world.store().db()).await.unwrap();
    assert_eq!(dead.len(), 1);
    let letter = &dead[0];
    assert_eq!(
        (letter.queue.as_str(), letter.type_.as_str()),
        ("re-encryptor", "rekey.batch.ready.v1")
    );
    assert!(letter.event.contains(&batch.batch.to_string()));
    assert!(letter.error.contains("delivery_limit"), "{}", letter.error);
}
