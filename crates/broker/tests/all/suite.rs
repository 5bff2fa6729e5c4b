//! The suite: what workers rely on, whatever carries their messages.

use std::{cell::RefCell, collections::BTreeSet};

use rekey_broker::{Delivery, Settlement};
use rekey_messages::{BatchReady, Event, KeyringChanged, Queue, RotationDue};
use rekey_store::Store;
use tokio::time::timeout;
use uuid::Uuid;

use crate::world::{Process, SOON, World, outbox_empties, rotation_of, send, send_due};

const ROTATOR: &[Queue] = &[Queue::Rotator];

pub async fn what_was_committed_is_delivered_once_while_nobody_dies(world: &impl World) {
    let processes = [world.process(ROTATOR).await, world.process(ROTATOR).await];
    let mut sent = BTreeSet::new();
    for _ in 0..40 {
        sent.insert(send_due(world.store()).await);
    }
    let received = RefCell::new(Vec::new());
    // Both go on until all is there: a receiver that is dropped midway would keep its message for a while.
    let take_all = async |process: &Process| {
        while received.borrow().len() < sent.len() {
            let delivery = process.receive(Queue::Rotator).await;
            assert!(process.settle(&delivery, Settlement::Done).await);
            // Not before: whoever sees that all is there ends the other, in mid-settling perhaps.
            received.borrow_mut().push(rotation_of(&delivery));
        }
    };
    let [one, other] = &processes;
    tokio::select! {
        () = take_all(one) => {}
        () = take_all(other) => {}
    }
    let received = received.into_inner();
    // The order is nobody's business.
    assert_eq!(received.iter().copied().collect::<BTreeSet<_>>(), sent);
    for process in &processes {
        assert!(process.receives_nothing(Queue::Rotator).await);
    }
    outbox_empties(world.store()).await;
}

pub async fn what_was_not_committed_is_never_delivered(world: &impl World) {
    let process = world.process(ROTATOR).await;
    let unit = world.store().begin().await.unwrap();
    let rotation = Uuid::now_v7();
    unit.send(&RotationDue { rotation }).await.unwrap();
    drop(unit);
    let committed = send_due(world.store()).await;
    let delivery = process.receive(Queue::Rotator).await;
    assert_eq!(rotation_of(&delivery), committed);
    process.settle(&delivery, Settlement::Done).await;
    assert!(process.receives_nothing(Queue::Rotator).await);
}

pub async fn a_returned_message_comes_again(world: &impl World) {
    let process = world.process(ROTATOR).await;
    let sent = send_due(world.store()).await;
    for _ in 0..3 {
        let delivery = process.receive(Queue::Rotator).await;
        assert_eq!(rotation_of(&delivery), sent);
        assert!(process.settle(&delivery, Settlement::Return).await);
    }
    let last = process.receive(Queue::Rotator).await;
    assert!(process.settle(&last, Settlement::Done).await);
    assert!(process.receives_nothing(Queue::Rotator).await);
}

pub async fn a_delivery_is_settled_once(world: &impl World) {
    let process = world.process(ROTATOR).await;
    send_due(world.store()).await;
    let delivery = process.receive(Queue::Rotator).await;
    assert!(process.settle(&delivery, Settlement::Done).await);
    assert!(!process.settle(&delivery, Settlement::Done).await);
    assert!(!process.settle(&delivery, Settlement::Return).await);
    assert!(process.receives_nothing(Queue::Rotator).await);
}

pub async fn a_message_being_worked_on_is_nobody_elses(world: &impl World) {
    let (one, other) = (world.process(ROTATOR).await, world.process(ROTATOR).await);
    send_due(world.store()).await;
    let (delivery, holder, idle) = tokio::select! {
        delivery = one.receive(Queue::Rotator) => (delivery, &one, &other),
        delivery = other.receive(Queue::Rotator) => (delivery, &other, &one),
    };
    holder
        .transport
        .keep(delivery.receipt.clone())
        .await
        .unwrap();
    assert!(idle.receives_nothing(Queue::Rotator).await);
    assert!(holder.receives_nothing(Queue::Rotator).await);
    assert!(holder.settle(&delivery, Settlement::Done).await);
}

pub async fn what_a_dead_process_held_comes_again(world: &impl World) {
    let doomed = world.process(ROTATOR).await;
    let sent = send_due(world.store()).await;
    let delivery = doomed.receive(Queue::Rotator).await;
    assert_eq!(rotation_of(&delivery), sent);
    drop(delivery);
    doomed.die().await;
    world.forget_the_dead().await;
    let survivor = world.process(ROTATOR).await;
    let again = survivor.receive(Queue::Rotator).await;
    assert_eq!(rotation_of(&again), sent);
    assert!(survivor.settle(&again, Settlement::Done).await);
}

pub async fn what_is_for_every_process_reaches_each_and_no_queue(world: &impl World) {
    let mut processes = Vec::new();
    for _ in 0..world.listening() {
        processes.push(world.process(ROTATOR).await);
    }
    let transports = processes.iter().map(|process| &process.transport);
    let mut listeners: Vec<_> = transports
        .flat_map(|transport| [transport.broadcasts(), transport.broadcasts()])
        .collect();
    let keyring = "phi".parse().unwrap();
    let changed = KeyringChanged { keyring };
    send(world.store(), &changed).await;
    for listener in &mut listeners {
        let event = timeout(SOON, listener.recv()).await.unwrap().unwrap();
        assert_eq!(event.message::<KeyringChanged>().unwrap(), changed);
    }
    for process in &processes {
        assert!(process.receives_nothing(Queue::Rotator).await);
    }
}

pub async fn what_is_urgent_overtakes_all_that_waits(world: &impl World) {
    let queues = &[Queue::ReEncryptorUrgent, Queue::ReEncryptor];
    let mut waiting = BTreeSet::new();
    for _ in 0..5 {
        waiting.insert(send_batch(world.store(), false).await);
    }
    let urgent = [
        send_batch(world.store(), true).await,
        send_batch(world.store(), true).await,
    ];
    let process = world.process(queues).await;
    world.everything_is_at_hand().await;
    let mut received = Vec::new();
    for _ in 0..7 {
        let delivery = process.receive_first(queues).await;
        let is_urgent = urgent.contains(&batch_of(&delivery));
        let came_through = if is_urgent { queues[0] } else { queues[1] };
        assert_eq!(delivery.queue, came_through);
        received.push(batch_of(&delivery));
        assert!(process.settle(&delivery, Settlement::Done).await);
    }
    let (first, rest) = received.split_at(urgent.len());
    assert_eq!(BTreeSet::from_iter(first), BTreeSet::from_iter(&urgent));
    assert_eq!(BTreeSet::from_iter(rest.iter().copied()), waiting);
    assert!(process.receives_nothing(Queue::ReEncryptor).await);
    outbox_empties(world.store()).await;
    process.stop().await;
}

async fn send_batch(store: &Store, urgent: bool) -> Uuid {
    let batch = Uuid::now_v7();
    let message = BatchReady {
        batch,
        rotation: Uuid::now_v7(),
        generation: 1,
        target: rekey_domain::KeyId::new(7),
        urgent,
    };
    send(store, &message).await;
    batch
}

fn batch_of(delivery: &Delivery) -> Uuid {
    let event = Event::parse(delivery.body.as_bytes()).unwrap();
    event.message::<BatchReady>().unwrap().batch
}

pub async fn each_queue_gets_its_own(world: &impl World) {
    let process = world.process(&[Queue::Rotator, Queue::ReEncryptor]).await;
    let sent = send_due(world.store()).await;
    let batch = BatchReady {
        batch: Uuid::now_v7(),
        rotation: sent,
        generation: 1,
        target: rekey_domain::KeyId::new(7),
        urgent: false,
    };
    send(world.store(), &batch).await;
    let due = process.receive(Queue::Rotator).await;
    let ready = process.receive(Queue::ReEncryptor).await;
    assert_eq!(rotation_of(&due), sent);
    assert!(ready.body.contains(&batch.batch.to_string()));
    assert_eq!(process.transport.health(), Ok(()));
    for delivery in [due, ready] {
        assert!(process.settle(&delivery, Settlement::Done).await);
    }
    process.stop().await;
}
