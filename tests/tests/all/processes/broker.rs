//! The workers over RabbitMQ, and what people and systems outside may ask of them through it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rekey_broker::{RabbitMq, RabbitMqOptions, Transport, grants};
use rekey_domain::Principal;
use rekey_messages::{
    BackupRequested, KeyCompromised, KeyringChanged, MAX_EVENT_BYTES, Message, Queue, RotationDue,
    RotationRequested,
};
use rekey_operations::{Admission, REQUESTS_HELD, Requester, Services, admit, publish};
use rekey_testkit::rabbitmq::{Outside, TestBroker, publish as publish_over_amqp, publish_all};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use rekey_tests::support::{Deployment, phi, until};

const CANARY: &str = "123-45-6789";
/// Requests of one user, far more than its share.
const FLOOD: usize = 5_000;
/// What nothing holds up is done by then, in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Every worker of one process, over RabbitMQ.
struct Workers {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Workers {
    async fn start(services: &Services, broker: &TestBroker, requesters: Vec<Requester>) -> Self {
        let options = options(broker);
        let rabbit = Arc::new(RabbitMq::new(&options, services.store.clone()).unwrap());
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        let (running, stopping) = (rabbit.clone(), shutdown.clone());
        tasks.spawn(async move { running.run(stopping).await });
        tasks.spawn(listen(services.clone(), rabbit.clone(), shutdown.clone()));
        let scheduler = rekey_scheduler::Deps {
            services: services.clone(),
            expiration_warning: Duration::from_secs(7 * 24 * 3_600),
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

fn options(broker: &TestBroker) -> RabbitMqOptions {
    RabbitMqOptions {
        url: broker.url(),
        prefix: broker.prefix().to_owned(),
        name: broker.prefix().to_owned(),
        consume: vec![
            (Queue::Rotator, 4),
            (Queue::Requests, REQUESTS_HELD),
            (Queue::Reports, REQUESTS_HELD),
            (Queue::ReEncryptor, 3),
            (Queue::ReEncryptorUrgent, 3),
        ],
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
async fn backups_are_asked_for_by_whoever_may_and_by_nobody_else() {
    let clinic = Deployment::of(0).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let (other, others) = requester(&broker).await;
    let process = clinic.process("one").await;
    let may = listed(&user, vec![BackupRequested::TYPE]);
    let may_rotate = listed(&other, vec![RotationRequested::TYPE]);
    let workers = Workers::start(&process, &broker, vec![may, may_rotate]).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let body = json!({ "specversion": "1.0", "id": "1", "source": "/siem",
        "type": BackupRequested::TYPE, "data": {} })
    .to_string();
    for (url, user) in [(&others, &other), (&url, &user), (&url, &user)] {
        let message = Outside {
            exchange: &exchange,
            key: BackupRequested::TYPE,
            user_id: Some(user),
            body: body.as_bytes(),
        };
        publish_over_amqp(url, message).await.unwrap();
    }
    let refused = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    let asked = "SELECT count(*) FROM audit_entry WHERE action = 'backups.requested' AND principal = 'amqp:siem'";
    until("one is refused and one is taken", async || {
        let counts = (clinic.count(refused).await, clinic.count(asked).await);
        (counts == (1, 1)).then_some(())
    })
    .await;
    let wanted = "SELECT count(*) FROM backup_request";
    assert_eq!(clinic.count(wanted).await, 8, "every key there is");
    workers.stop().await;
    assert_eq!(clinic.count(asked).await, 1);
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
async fn a_request_that_cannot_be_carried_out_is_refused_at_once_and_holds_up_no_other() {
    let clinic = Deployment::of(40).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let siem = listed(&user, vec![RotationRequested::TYPE]);
    let process = clinic.process("one").await;
    let workers = Workers::start(&process, &broker, vec![siem]).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let wrong = [
        json!({ "keyring": "phi", "only": "clinic.patients.name" }),
        json!({ "keyring": "phi", "only": "clinic.persons.ssn", "pause_after": 5 }),
        json!({ "keyring": "nobody-has-it" }),
        json!({ "keyring": "phi", "only": "ssn" }),
        json!({ "keyring": "phi", "pause_after": 0 }),
    ];
    for (number, data) in wrong.iter().enumerate() {
        let mut event = request(&number.to_string());
        event["data"] = data.clone();
        ask(&url, &exchange, Some(&user), event.to_string().as_bytes()).await;
    }
    let good = request("good").to_string();
    ask(&url, &exchange, Some(&user), good.as_bytes()).await;
    let asked = std::time::Instant::now();
    until("the good one is taken", async || {
        (clinic.count("SELECT count(*) FROM rotation").await == 1).then_some(())
    })
    .await;
    assert!(asked.elapsed() < SOON, "after {:?}", asked.elapsed());
    clinic.completes().await;
    workers.stop().await;
    let refused = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    assert_eq!(clinic.count(refused).await, 5);
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_user_holds_up_no_other_and_is_written_down() {
    let clinic = Deployment::of(0).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let (flooder, floods) = requester(&broker).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let mut event = request("1");
    event["data"] = json!({ "keyring": "nobody-has-it" });
    let body = event.to_string();
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| Outside {
            exchange: &exchange,
            key: RotationRequested::TYPE,
            user_id: Some(&flooder),
            body: body.as_bytes(),
        })
        .collect();
    // The queue is there before whoever takes from it: the flood is all in front of the other's request.
    let process = clinic.process("one").await;
    RabbitMq::declare(&options(&broker)).await.unwrap();
    publish_all(&floods, &flood).await.unwrap();
    let good = request("good").to_string();
    ask(&url, &exchange, Some(&user), good.as_bytes()).await;
    let may = vec![RotationRequested::TYPE];
    let both = vec![listed(&user, may.clone()), listed(&flooder, may)];
    let began = std::time::Instant::now();
    let workers = Workers::start(&process, &broker, both).await;
    until("the other's request is taken", async || {
        (clinic.count("SELECT count(*) FROM rotation").await == 1).then_some(())
    })
    .await;
    assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
    workers.stop().await;
    // Its share is refused one by one, what was turned away in few entries.
    let refused = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    let entries = clinic.count(refused).await;
    assert!((101..150).contains(&entries), "{entries} entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_stands_behind_no_request_even_of_its_own_sender_and_acts_once() {
    let clinic = Deployment::of(40).await;
    let broker = TestBroker::create().await;
    let (user, url) = requester(&broker).await;
    let exchange = format!("{}rekey.requests", broker.prefix());
    let mut request = request("1");
    request["data"] = json!({ "keyring": "nobody-has-it" });
    let body = request.to_string();
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| Outside {
            exchange: &exchange,
            key: RotationRequested::TYPE,
            user_id: Some(&user),
            body: body.as_bytes(),
        })
        .collect();
    let process = clinic.process("one").await;
    RabbitMq::declare(&options(&broker)).await.unwrap();
    publish_all(&url, &flood).await.unwrap();
    for (id, key) in [("2", "phi/1"), ("3", "deadbeef")] {
        let report = json!({ "specversion": "1.0", "id": id, "source": "/siem", "type": KeyCompromised::TYPE,
            "data": { "key": key, "reason": "seen in a paste" } });
        let body = report.to_string();
        let report = Outside {
            exchange: &exchange,
            key: KeyCompromised::TYPE,
            user_id: Some(&user),
            body: body.as_bytes(),
        };
        publish_over_amqp(&url, report).await.unwrap();
    }
    let (stranger, strangers) = requester(&broker).await;
    ask(&strangers, &exchange, Some(&stranger), body.as_bytes()).await;
    let may = vec![RotationRequested::TYPE, KeyCompromised::TYPE];
    let workers = Workers::start(&process, &broker, vec![listed(&user, may)]).await;
    let began = std::time::Instant::now();
    until("the key is stopped", async || {
        let stopped = "SELECT count(*) FROM key WHERE version = 1 AND state = 'COMPROMISED'";
        (clinic.count(stopped).await == 1).then_some(())
    })
    .await;
    assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
    until(
        "the flood, and the report behind it, are through",
        async || {
            let refused =
                "SELECT count(DISTINCT subject) FROM audit_entry WHERE action = 'request.refused'";
            (clinic.count(refused).await == 2).then_some(())
        },
    )
    .await;
    clinic.completes().await;
    workers.stop().await;
    let incidents = "SELECT count(*) FROM incident";
    assert_eq!(clinic.count(incidents).await, 1);
    let stopped = "SELECT count(*) FROM audit_entry WHERE action = 'key.compromised'";
    assert_eq!(clinic.count(stopped).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_refused_is_written_down_once_for_both_queues() {
    let clinic = Deployment::of(0).await;
    let siem = [listed("siem-user", vec![KeyCompromised::TYPE])];
    let report = json!({ "specversion": "1.0", "id": "3", "source": "/siem", "type": KeyCompromised::TYPE,
        "data": { "key": "deadbeef", "reason": "seen in a paste" } });
    for user in ["siem-user", "siem-user", "stranger", "stranger"] {
        let body = report.to_string();
        let admission = admit(&clinic.services, &siem, Some(user), body.as_bytes()).await;
        assert!(matches!(admission, Ok(Admission::Refused(_))));
    }
    let refused = "SELECT count(*) FROM audit_entry WHERE action = 'request.refused'";
    assert_eq!(clinic.count(refused).await, 2);
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
