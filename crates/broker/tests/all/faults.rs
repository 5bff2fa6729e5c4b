//! Connections that are cut and refused: it goes on by itself, and nothing is lost.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_broker::Settlement;
use rekey_messages::Queue;
use rekey_testkit::Proxy;
use tokio::time::timeout;
use uuid::Uuid;

use crate::world::{Process, Rabbit, SOON, World, outbox_empties, rotation_of, send_due, until};

const MESSAGES: usize = 200;
/// What the design promises.
const RECONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// What was settled for good, by message.
type Acked = Arc<Mutex<HashSet<Uuid>>>;

/// Works on the queue until the test ends.
fn work(process: Process, acked: Acked) {
    tokio::spawn(async move {
        loop {
            let Ok(delivery) = process.transport.receive(&[Queue::Rotator]).await else {
                continue;
            };
            let rotation = rotation_of(&delivery);
            let settled = process.transport.settle(delivery.receipt, Settlement::Done);
            if let Ok(true) = settled.await {
                acked.lock().unwrap().insert(rotation);
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_closed_by_force_lose_nothing() {
    let world = Rabbit::new().await;
    let acked = Acked::default();
    for _ in 0..2 {
        let process = world.process(&[Queue::Rotator]).await;
        work(process, acked.clone());
    }
    let mut attempted = HashSet::new();
    let mut closed = 0;
    for number in 0..MESSAGES {
        attempted.insert(send_due(world.store()).await);
        if number % 40 == 20 {
            until("connections are closed", async || {
                let now = world
                    .broker
                    .management
                    .close_connections(world.broker.prefix());
                closed += now.await;
                closed > number / 40
            })
            .await;
        }
    }
    assert_accounted(&world, &attempted, &acked).await;
    assert!(closed >= 4, "{closed} closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_again_and_again_loses_nothing() {
    let world = Rabbit::new().await;
    let (proxy, url) = Proxy::before(&world.broker.url()).await;
    let acked = Acked::default();
    let (process, rabbit) = world.start(&url, &[Queue::Rotator]).await;
    work(process, acked.clone());
    let mut attempted = HashSet::new();
    for number in 0..MESSAGES {
        attempted.insert(send_due(world.store()).await);
        if number % 50 == 25 {
            timeout(SOON, rabbit.ready()).await.expect("connects again");
            proxy.cut();
        }
    }
    assert_accounted(&world, &attempted, &acked).await;
}

async fn assert_accounted(world: &Rabbit, attempted: &HashSet<Uuid>, acked: &Acked) {
    outbox_empties(world.store()).await;
    until("all are acked", async || {
        attempted.is_subset(&acked.lock().unwrap())
    })
    .await;
    let acked = acked.lock().unwrap();
    let (lost, unexpected) = (attempted.difference(&acked), acked.difference(attempted));
    assert_eq!((lost.count(), unexpected.count()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_started_before_its_broker_comes_up_when_it_does() {
    let world = Rabbit::new().await;
    let (proxy, url) = Proxy::before(&world.broker.url()).await;
    proxy.refuse();
    let (process, rabbit) = world.start(&url, &[Queue::Rotator]).await;
    let sent = send_due(world.store()).await;
    until("it says what is wrong", async || {
        process
            .transport
            .health()
            .is_err_and(|error| error.contains("out of reach"))
    })
    .await;
    assert!(process.receives_nothing(Queue::Rotator).await);
    proxy.restore();
    timeout(RECONNECTED_WITHIN, rabbit.ready())
        .await
        .expect("connects");
    assert_eq!(rotation_of(&process.receive(Queue::Rotator).await), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_gone_for_a_while_is_found_within_ten_seconds() {
    let world = Rabbit::new().await;
    let (proxy, url) = Proxy::before(&world.broker.url()).await;
    let (process, rabbit) = world.start(&url, &[Queue::Rotator]).await;
    timeout(SOON, rabbit.ready()).await.expect("connects");
    send_due(world.store()).await;
    let held = process.receive(Queue::Rotator).await;
    proxy.refuse();
    until("both notice", async || process.transport.health().is_err()).await;
    let settled = process.transport.settle(held.receipt, Settlement::Done);
    assert!(
        !matches!(settled.await, Ok(true)),
        "it was delivered by a connection that is gone"
    );
    // Long enough for the delay between attempts to have reached its cap.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let sent = send_due(world.store()).await;
    proxy.restore();
    let back = Instant::now();
    timeout(RECONNECTED_WITHIN, rabbit.ready())
        .await
        .expect("connects again");
    let mut delivered = HashSet::new();
    while !delivered.contains(&sent) {
        let delivery = process.receive(Queue::Rotator).await;
        delivered.insert(rotation_of(&delivery));
        assert!(process.settle(&delivery, Settlement::Done).await);
    }
    assert!(back.elapsed() < RECONNECTED_WITHIN + Duration::from_secs(2));
    assert_eq!(process.transport.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_deleted_under_its_consumer_is_declared_anew() {
    let world = Rabbit::new().await;
    let process = world.process(&[Queue::Rotator]).await;
    let queue = world.name("rekey.rotator");
    world.broker.management.delete_queue(&queue).await;
    let sent = send_due(world.store()).await;
    assert_eq!(rotation_of(&process.receive(Queue::Rotator).await), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_can_be_settled_while_the_process_ends() {
    let world = Rabbit::new().await;
    let process = world.process(&[Queue::Rotator]).await;
    send_due(world.store()).await;
    let delivery = process.receive(Queue::Rotator).await;
    let transport = process.transport.clone();
    process.stop().await;
    let settled = transport.settle(delivery.receipt, Settlement::Done).await;
    assert!(settled.unwrap());
    drop(transport);
    let next = world.process(&[Queue::Rotator]).await;
    assert!(next.receives_nothing(Queue::Rotator).await);
}
