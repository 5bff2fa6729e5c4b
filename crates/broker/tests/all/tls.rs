//! RabbitMQ over TLS, vouched for by an authority that the system does not know.

use rekey_broker::{BrokerError, RabbitMq};
use rekey_messages::Queue;
use rekey_testkit::{PrivateRabbitMq, rabbitmq::TestBroker, tls::Authority};

use crate::world::{Files, Rabbit, World, rotation_of, send_due};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_trusted_by_the_authority_that_the_url_names_and_by_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let node = PrivateRabbitMq::start_secure(&authority.vouch_for("localhost")).unwrap();
    let broker = TestBroker::on(node.amqp_url(), node.api_url()).await;
    let files = Files::new().await;
    let world = Rabbit { files, broker };
    let vhost = world.broker.prefix().trim_end_matches('.');
    let url = node.amqps_url().replace("%2f", vhost);
    let trusting =
        |authority: &Authority| format!("{url}?cacertfile={}", authority.file().display());
    let trusted = trusting(&authority);

    let by_another_name = trusted.replace("localhost", "127.0.0.1");
    for refused in [url.clone(), trusting(&other), by_another_name] {
        let error = RabbitMq::declare(&world.options(&refused, &[])).await;
        let error = error.unwrap_err();
        assert!(matches!(error, BrokerError::OutOfReach { .. }), "{error}");
        assert!(error.to_string().contains("cacertfile"), "{error}");
    }
    RabbitMq::declare(&world.options(&trusted, &[]))
        .await
        .unwrap();
    let (process, rabbit) = world.start(&trusted, &[Queue::Rotator]).await;
    rabbit.ready().await;
    let sent = send_due(world.store()).await;
    assert_eq!(rotation_of(&process.receive(Queue::Rotator).await), sent);
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_read_is_named() {
    let world = Rabbit::new().await;
    let url = format!("{}?cacertfile=/nowhere/ca.pem", world.broker.url());
    let error = RabbitMq::declare(&world.options(&url, &[])).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}
