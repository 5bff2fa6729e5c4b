//! The workers over RabbitMQ, and what people and systems outside may ask of them through it.

use std::{collections::HashSet, sync::Arc};

use rekey_broker::{RabbitMq, RabbitMqOptions, Transport, grants};
use rekey_domain::Principal;
use rekey_messages::{
    KeyringChanged, MAX_EVENT_BYTES, Message, Queue, RotationDue, RotationRequested,
};
use rekey_operations::{Admission, Requester, Services, admit, publish};
use rekey_testkit::rabbitmq::{Outside, TestBroker, publish as publish_over_amqp};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Deployment, phi, until};

const CANARY: &str = "123-45-6789";

/// Every worker of one process, over RabbitMQ.
struct Workers {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Workers {
    async fn start(services: &Services, broker: &TestBroker, requesters: Vec<Requester>) -> Self {
        let options = RabbitMqOptions {
            url: broker.url(),
            prefix: broker.prefix().to_owned(),
            name: broker.prefix().to_owned(),
            consume: vec![
                (Queue::Rotator, 4),
                (Queue::Requests, 1),
                (Queue::ReEncryptor, 3),
                (Queue::ReEncryptorUrgent, 3),
            ],
        };
        let rabbit = Arc::new(RabbitMq::new(&options, services.store.clone()).unwrap());
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        let (running, stopping) = (rabbit.clone(), shutdown.clone());
        tasks.spawn(async move { running.run(stopping).await });
        tasks.spawn(listen(services.clone(), rabbit.clone(), shutdown.clone()));
        let scheduler = rekey_scheduler::Deps {
            services: services.clone(),
        };
        tasks.spawn(rekey_scheduler::run(scheduler, shutdown.clone()));
        let rotator = rekey_rotator::Deps {
            services: services.clone(),
            transport: rabbit.clone(),
            requesters,
        };
        tasks.spawn(rekey_rotator::run(rotator, shutdown.clone()));
        let re_encryptor = rekey_re_encryptor::Deps {
            services: services.clone(),
            transport: rabbit.clone(),
            slots: 3,
        };
        tasks.spawn(rekey_re_encryptor::run(re_encryptor, shutdown.clone()));
        rabbit.ready().await;
        Self { tasks, shutdown }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

async fn listen(services: Services, rabbit: Arc<RabbitMq>, shutdown: CancellationToken) {
    let mut broadcasts = rabbit.broadcasts();
    let listening = async {
        while let Ok(event) = broadcasts.recv().await {
            if let Ok(KeyringChanged { keyring }) = event.message() {
                services.client.keyring_changed(&keyring);
            }
        }
    };
    let _ = shutdown.run_until_cancelled(listening).await;
}

/// A user of the broker with the rights of a requester; returns its name and URL.
async fn requester(broker: &TestBroker) -> (String, String) {
    let (user, url) = broker.user().await;
    let grants = grants(broker.prefix()).unwrap();
    let grant = grants
        .iter()
        .find(|grant| grant.who == "requester")
        .unwrap();
    let management = &broker.management;
    management
        .permit(&user, &grant.configure, &grant.write, &grant.read)
        .await;
    for topic in &grant.topics {
        management
            .permit_topics(&user, &topic.exchange, &topic.write, &topic.read)
            .await;
    }
    (user, url)
}

fn listed(user: &str, may: Vec<&'static str>) -> Requester {
    Requester {
        principal: Principal::amqp("siem"),
        amqp_user: user.to_owned(),
        may,
    }
}

fn request(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/rekey", "principal": "os:root@anywhere",
        "type": RotationRequested::TYPE, "data": { "keyring": "phi" } })
}

async fn ask(url: &str, exchange: &str, user_id: Option<&str>, body: &[u8]) {
    let message = Outside {
        exchange,
        key: RotationRequested::TYPE,
        user_id,
        body,
    };
    publish_over_amqp(url, message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_from_outside_rotates_in_the_name_of_who_sent_it_and_once() {
    let clinic = Deployment::of(300).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let siem = listed(&user, vec![RotationRequested::TYPE]);
    let process = clinic.process("one").await;
    let workers = Workers::start(&process, &broker, vec![siem]).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let body = request("1").to_string();
    for _ in 0..3 {
        ask(&url, &exchange, Some(&user), body.as_bytes()).await;
    }
    let view = clinic.completes().await;
    clinic.assert_rotated_once().await;
    let by = &view.certificate.unwrap()["requested_by"];
    assert_eq!(by, &json!("amqp:siem"));
    let asked = "SELECT count(*) FROM audit_entry WHERE action = 'rotation.requested' AND principal = 'amqp:siem'";
    assert_eq!(clinic.count(asked).await, 1);
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_asked_for_is_refused_and_audited_and_nothing_is_done() {
    let clinic = Deployment::of(0).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let (stranger, strangers) = requester(&broker).await;
    let process = clinic.process("one").await;
    let siem = listed(&user, vec![RotationRequested::TYPE]);
    let workers = Workers::start(&process, &broker, vec![siem]).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let good = request("1").to_string();
    let other = json!({ "specversion": "1.0", "id": "1", "source": "/siem", "type": RotationDue::TYPE, "data": {} });
    let large = "x".repeat(3 * MAX_EVENT_BYTES);
    let refused = [
        (&url, None, good.as_bytes()),
        (&strangers, Some(&stranger), good.as_bytes()),
        (&url, Some(&user), b"\0\xff{".as_slice()),
        (&url, Some(&user), large.as_bytes()),
        (&url, Some(&user), &other.to_string().into_bytes()),
    ];
    for (url, user_id, body) in refused {
        ask(url, &exchange, user_id.map(String::as_str), body).await;
    }
    let entries =
        "SELECT count(*) FROM audit_entry WHERE action = 'request.refused' AND outcome = 'refused'";
    until("all are refused", async || {
        (clinic.count(entries).await == 5).then_some(())
    })
    .await;
    workers.stop().await;
    let nothing = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM rotation) + (SELECT count(*) FROM dead_letter)";
    assert_eq!(clinic.count(nothing).await, 0);
    let by_user =
        "SELECT count(DISTINCT subject) FROM audit_entry WHERE action = 'request.refused'";
    assert_eq!(
        clinic.count(by_user).await,
        3,
        "nobody, the stranger, siem's user"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_can_read_is_a_dead_letter_and_the_queue_flows_on() {
    let clinic = Deployment::of(40).await;
    let broker = TestBroker::create().await;
    let process = clinic.process("one").await;
    let workers = Workers::start(&process, &broker, Vec::new()).await;
    let poison = Outside {
        exchange: &format!("{}rekey", broker.prefix()),
        key: RotationDue::TYPE,
        user_id: None,
        body: b"\0\xff not an event",
    };
    publish_over_amqp(&broker.url(), poison).await.unwrap();
    until("there is a dead letter", async || {
        (clinic.count("SELECT count(*) FROM dead_letter").await == 1).then_some(())
    })
    .await;
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    workers.stop().await;
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_over_rabbitmq_make_one_rotation_through_closed_connections() {
    let clinic = Deployment::of(600).await;
    let broker = TestBroker::create().await;
    let mut processes = Vec::new();
    for name in ["one", "two"] {
        let process = clinic.process(name).await;
        processes.push(Workers::start(&process, &broker, Vec::new()).await);
    }
    clinic.rotate(&phi()).await;
    let mut closed = 0;
    until("connections are closed", async || {
        closed += broker.management.close_connections(broker.prefix()).await;
        (closed >= 3).then_some(())
    })
    .await;
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    for process in processes {
        process.stop().await;
    }
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test]
async fn no_outsider_can_pass_for_another_or_for_one_of_our_programs() {
    let clinic = Deployment::of(0).await;
    let body = request("1").to_string();
    let mut ids = HashSet::from(["1".to_owned()]);
    for name in ["siem", "other"] {
        let principal = Principal::amqp(name);
        let asked = || publish(&clinic.services, body.as_bytes(), &principal);
        let id = asked().await.unwrap();
        assert_eq!(asked().await.unwrap(), id, "the same is taken once");
        assert!(ids.insert(id), "each has ids of its own");
    }
    assert_eq!(clinic.count("SELECT count(*) FROM outbox").await, 2);
    let forged = "SELECT count(*) FROM outbox WHERE event LIKE '%os:root%' OR event NOT LIKE '%\"principal\":\"amqp:%'";
    assert_eq!(clinic.count(forged).await, 0);
}

#[tokio::test]
async fn a_refusal_quotes_nothing_of_what_was_sent() {
    let clinic = Deployment::of(0).await;
    let siem = [listed("siem-user", vec![RotationRequested::TYPE])];
    let mut bodies = vec![CANARY.to_owned()];
    for field in ["keyring", "reason"] {
        let mut event = request("1");
        event["data"][field] = json!(format!("not a name: {CANARY}"));
        bodies.push(event.to_string());
    }
    for field in ["type", "specversion", "principal"] {
        let mut event = request("1");
        event[field] = json!(CANARY);
        bodies.push(event.to_string());
    }
    for body in bodies {
        let admission = admit(&clinic.services, &siem, Some("siem-user"), body.as_bytes()).await;
        let Admission::Refused(reason) = admission.unwrap() else {
            panic!("admitted: {body}")
        };
        assert!(!reason.contains(CANARY), "{reason}");
    }
}
