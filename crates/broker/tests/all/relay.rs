//! The relay: what is shipped, what stays in the outbox, and what several relays do together.

use std::collections::HashSet;

use rekey_broker::Settlement;
use rekey_domain::RotationKind;
use rekey_messages::{Queue, RotationCompleted};
use rekey_store::{Store, outbox, relay};
use rekey_testkit::TestDatabase;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::{Rabbit, SOON, World, outbox_empties, rotation_of, send, send_due, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_finds_no_queue_stays_until_there_is_one() {
    let world = Rabbit::new().await;
    world.declare().await;
    let queue = world.name("rekey.rotator");
    world.broker.management.delete_queue(&queue).await;
    // Who may not configure cannot mend it.
    let (user, url) = world.broker.user().await;
    let own = format!("^{}rekey(\\.process\\..*)?$", world.broker.prefix());
    world
        .broker
        .management
        .permit(&user, &own, &own, &own)
        .await;
    let (relay, _) = world.start(&url, &[]).await;
    let sent = send_due(world.store()).await;
    until("the relay says what is missing", async || {
        relay
            .transport
            .health()
            .is_err_and(|error| error.contains("found no queue"))
    })
    .await;
    assert_eq!(outbox::depth(world.store()).await.unwrap(), 1);
    let rotator = world.process(&[Queue::Rotator]).await;
    let delivery = rotator.receive(Queue::Rotator).await;
    assert_eq!(rotation_of(&delivery), sent);
    rotator.settle(&delivery, Settlement::Done).await;
    outbox_empties(world.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_that_nobody_listens_for_is_shipped_all_the_same() {
    let world = Rabbit::new().await;
    let process = world.process(&[]).await;
    let completed = RotationCompleted {
        rotation: Uuid::now_v7(),
        key: "phi/2".parse().unwrap(),
        kind: RotationKind::default(),
    };
    send(world.store(), &completed).await;
    outbox_empties(world.store()).await;
    assert_eq!(process.transport.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_finds_no_queue_holds_no_other_back() {
    let world = Rabbit::new().await;
    world.declare().await;
    let queue = world.name("rekey.re-encryptor");
    world.broker.management.delete_queue(&queue).await;
    let (user, url) = world.broker.user().await;
    let all = format!("^{}rekey.*$", world.broker.prefix());
    let own = format!("^{}rekey\\.process\\..*$", world.broker.prefix());
    world
        .broker
        .management
        .permit(&user, &own, &all, &all)
        .await;
    let (process, _) = world.start(&url, &[Queue::Rotator]).await;
    for _ in 0..20 {
        let batch = rekey_messages::BatchReady {
            batch: Uuid::now_v7(),
            rotation: Uuid::now_v7(),
            generation: 1,
            target: rekey_domain::KeyId::new(7),
            urgent: false,
        };
        send(world.store(), &batch).await;
        let sent = send_due(world.store()).await;
        let delivery = process.receive(Queue::Rotator).await;
        assert_eq!(rotation_of(&delivery), sent, "each is shipped once");
        process.settle(&delivery, Settlement::Done).await;
    }
    until("only they are left", async || {
        outbox::depth(world.store()).await.unwrap() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_at_work_together_ship_each_message_once() {
    const MESSAGES: usize = 300;
    let world = Rabbit::new().await;
    let worker = world.process(&[Queue::Rotator]).await;
    let _relays = [world.process(&[]).await, world.process(&[]).await];
    let mut sent = HashSet::new();
    for _ in 0..MESSAGES {
        sent.insert(send_due(world.store()).await);
    }
    let mut received = Vec::new();
    for _ in 0..MESSAGES {
        let delivery = worker.receive(Queue::Rotator).await;
        received.push(rotation_of(&delivery));
        worker.settle(&delivery, Settlement::Done).await;
    }
    assert!(worker.receives_nothing(Queue::Rotator).await);
    assert_eq!(received.into_iter().collect::<HashSet<_>>(), sent);
    outbox_empties(world.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_relays_never_lease_the_same_message() {
    const MESSAGES: usize = 200;
    let database = TestDatabase::create().await;
    let store = Store::connect(&database.url()).await.unwrap();
    store.migrate().await.unwrap();
    for _ in 0..MESSAGES {
        send_due(&store).await;
    }
    let mut relays = JoinSet::new();
    for _ in 0..3 {
        let store = Store::connect(&database.url()).await.unwrap();
        relays.spawn(async move {
            let mut leased = Vec::new();
            while outbox::depth(&store).await.unwrap() > 0 {
                let block = relay::lease_block(&store, 7, SOON).await.unwrap();
                let ids: Vec<_> = block.messages.iter().map(|message| message.id).collect();
                let removed = relay::remove_all(&store, &block, &ids).await.unwrap();
                assert_eq!(removed, ids.len() as u64);
                leased.extend(ids);
            }
            leased
        });
    }
    let leased: Vec<_> = relays.join_all().await.into_iter().flatten().collect();
    assert_eq!(leased.len(), MESSAGES);
    assert_eq!(leased.iter().collect::<HashSet<_>>().len(), MESSAGES);
}
