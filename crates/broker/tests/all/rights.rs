//! Who may do what at the broker, and what is said to who may not.

use rekey_broker::{RabbitMq, Settlement, grants};
use rekey_messages::Queue;
use rekey_testkit::rabbitmq::{Outside, publish};
use serde_json::json;
use tokio::time::timeout;

use crate::world::{Rabbit, SOON, World, rotation_of, send_due, until};

async fn permit(world: &Rabbit, user: &str, who: &str) {
    let management = &world.broker.management;
    let grants = grants(world.broker.prefix()).unwrap();
    let grant = grants.iter().find(|grant| grant.who == who).unwrap();
    let [configure, write, read] = [&grant.configure, &grant.write, &grant.read];
    management.permit(user, configure, write, read).await;
    for topic in &grant.topics {
        let [exchange, write, read] = [&topic.exchange, &topic.write, &topic.read];
        management.permit_topics(user, exchange, write, read).await;
    }
}

async fn says(world: &Rabbit, url: &str, expected: &str) {
    let (process, _) = world.start(url, &[Queue::Rotator]).await;
    until(expected, async || {
        process
            .transport
            .health()
            .is_err_and(|error| error.contains(expected))
    })
    .await;
    let shown = process.transport.health().unwrap_err();
    assert!(
        !shown.contains("password@") && !shown.contains("wr0ng"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_to_be_one() {
    let world = Rabbit::new().await;
    let (user, _) = world.broker.user().await;
    let url = world.broker.url_as(&user, "wr0ng");
    says(&world, &url, "correct user and password").await;
    let declared = RabbitMq::declare(&world.options(&url, &[]))
        .await
        .unwrap_err();
    assert!(!declared.is_retryable(), "{declared}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_which_it_needs() {
    let world = Rabbit::new().await;
    world.declare().await;
    let (user, url) = world.broker.user().await;
    says(&world, &url, "give the user access to it").await;
    world
        .broker
        .management
        .permit(&user, "^$", "^$", "^$")
        .await;
    says(&world, &url, "rekey grants").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_declared_is_said_to_who_may_not_declare_it() {
    let world = Rabbit::new().await;
    let (user, url) = world.broker.user().await;
    permit(&world, &user, "rotator").await;
    says(&world, &url, "run rekey migrate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_declared_otherwise_is_named_and_used_once_it_is_gone() {
    let world = Rabbit::new().await;
    let queue = world.name("rekey.rotator");
    let classic = json!({ "x-queue-type": "classic" });
    world.broker.management.create_queue(&queue, classic).await;
    says(&world, &world.broker.url(), "delete it once it is empty").await;
    world.broker.management.delete_queue(&queue).await;
    world.process(&[Queue::Rotator]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_worker_does_its_work_with_the_rights_that_are_listed() {
    let world = Rabbit::new().await;
    let (user, url) = world.broker.user().await;
    permit(&world, &user, "declare").await;
    RabbitMq::declare(&world.options(&url, &[])).await.unwrap();
    let mut workers = Vec::new();
    for (who, queues) in [
        ("scheduler", vec![]),
        ("re-encryptor", vec![Queue::ReEncryptor]),
        (
            "rotator",
            vec![Queue::Rotator, Queue::Requests, Queue::Reports],
        ),
    ] {
        let (user, url) = world.broker.user().await;
        permit(&world, &user, who).await;
        let (process, rabbit) = world.start(&url, &queues).await;
        let ready = timeout(SOON, rabbit.ready()).await;
        assert!(ready.is_ok(), "{who}: {:?}", process.transport.health());
        workers.push(process);
    }
    let sent = send_due(world.store()).await;
    let rotator = &workers[2];
    let delivery = rotator.receive(Queue::Rotator).await;
    assert_eq!(rotation_of(&delivery), sent);
    assert!(rotator.settle(&delivery, Settlement::Done).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_publishes_requests_under_its_own_name_and_nothing_else() {
    let world = Rabbit::new().await;
    let rotator = world.process(&[Queue::Rotator, Queue::Requests]).await;
    let (user, url) = world.broker.user().await;
    permit(&world, &user, "requester").await;
    let (requests, workers) = (world.name("rekey.requests"), world.name("rekey"));
    let request = Outside {
        exchange: &requests,
        key: "rekey.rotation.requested.v1",
        user_id: Some(&user),
        body: b"{}",
    };
    publish(&url, request).await.unwrap();
    let delivery = rotator.receive(Queue::Requests).await;
    assert_eq!(delivery.user_id.as_ref(), Some(&user));
    assert!(rotator.settle(&delivery, Settlement::Done).await);
    for forbidden in [
        Outside {
            user_id: Some("admin"),
            ..request
        },
        Outside {
            exchange: &workers,
            ..request
        },
        Outside {
            key: "rekey.batch.ready.v1",
            ..request
        },
    ] {
        let refused = publish(&url, forbidden).await;
        assert!(refused.is_err(), "{forbidden:?}: {refused:?}");
    }
    assert!(rotator.receives_nothing(Queue::Requests).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_declared_is_deleted_and_nothing_else() {
    let world = Rabbit::new().await;
    world.declare().await;
    let management = &world.broker.management;
    management.create_queue("another", json!({})).await;
    let options = world.options(&world.broker.url(), &[]);
    for _ in 0..2 {
        RabbitMq::delete(&options).await.unwrap();
        assert_eq!(management.names("queues").await, ["another"]);
        let mut exchanges = management.names("exchanges").await;
        exchanges.retain(|name| name.contains("rekey"));
        assert_eq!(exchanges, Vec::<String>::new());
    }
}
