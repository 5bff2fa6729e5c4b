//! What the world does to a rotation: messages twice, late, lost and poisoned; bad rows; clocks.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rekey_broker::{BrokerError, Delivery, LocalTransport, Receipt, Settlement, Transport};
use rekey_domain::{Principal, RotationReason, RotationState};
use rekey_messages::{Event, Queue, route_of};
use rekey_operations::{Services, rotate, rotation_views, verify_audit};
use rekey_runtime::ManualClock;
use rekey_store::{
    ConnectionTrait, dead_letters,
    entities::{audit_entry, outbox},
    quarantine,
};
use sqlx::Row;
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clinic::{Clinic, PATIENCE, operator};

/// All workers in this process; dropped, they stop where they are.
struct Engine {
    _tasks: JoinSet<()>,
}

impl Engine {
    fn start(services: &Services) -> Self {
        Self::over(
            services,
            Arc::new(LocalTransport::new(services.store.clone())),
        )
    }

    fn over(services: &Services, transport: Arc<dyn Transport>) -> Self {
        let mut tasks = JoinSet::new();
        let never = CancellationToken::new();
        let broadcasts = LocalTransport::new(services.store.clone());
        let stop = never.clone();
        tasks.spawn(async move { broadcasts.run(stop).await });
        let deps = rekey_scheduler::Deps {
            services: services.clone(),
        };
        tasks.spawn(rekey_scheduler::run(deps, never.clone()));
        let deps = rekey_rotator::Deps {
            services: services.clone(),
            transport: transport.clone(),
        };
        tasks.spawn(rekey_rotator::run(deps, never.clone()));
        let deps = rekey_re_encryptor::Deps {
            services: services.clone(),
            transport,
            slots: 3,
        };
        tasks.spawn(rekey_re_encryptor::run(deps, never));
        Self { _tasks: tasks }
    }
}

/// Sends each event once more, late, whenever it delivers one.
struct Twice {
    services: Services,
    inner: LocalTransport,
}

#[async_trait]
impl Transport for Twice {
    async fn receive(&self, queue: Queue) -> Result<Delivery, BrokerError> {
        let delivery = self.inner.receive(queue).await?;
        let event = Event::parse(delivery.body.as_bytes()).unwrap();
        // Marked in its trace context, so that the copy is not copied again.
        if event.traceparent.is_none() {
            let copy = Event {
                traceparent: Some("copy".to_owned()),
                ..event
            };
            let unit = self.services.store.begin(self.services.clock.now()).await?;
            let late = Duration::from_millis(rand_millis(&copy.id));
            unit.send_event(&copy, route_of(&copy.type_).unwrap(), late)
                .await?;
            unit.commit().await?;
        }
        Ok(delivery)
    }

    async fn settle(&self, receipt: Receipt, settlement: Settlement) -> Result<bool, BrokerError> {
        self.inner.settle(receipt, settlement).await
    }

    async fn keep(&self, receipt: Receipt) -> Result<(), BrokerError> {
        self.inner.keep(receipt).await
    }

    fn broadcasts(&self) -> broadcast::Receiver<Event> {
        self.inner.broadcasts()
    }
}

/// 0 to 400 ms, by the event's id.
fn rand_millis(id: &str) -> u64 {
    id.bytes().map(u64::from).sum::<u64>() * 37 % 400
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn state(services: &Services) -> Option<RotationState> {
    rotation_views(services)
        .await
        .unwrap()
        .first()
        .map(|rotation| rotation.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_twice_and_out_of_order_is_one_rotation() {
    let clinic = Clinic::new().await;
    clinic.ask().await;
    let inner = LocalTransport::new(clinic.services.store.clone());
    let transport = Twice {
        services: clinic.services.clone(),
        inner,
    };
    let _engine = Engine::over(&clinic.services, Arc::new(transport));
    clinic.wait_until_completed("twice").await;
    clinic.assert_whole("twice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_lost_are_sent_again_from_the_rows() {
    let clinic = Clinic::new().await;
    clinic.ask().await;
    let engine = Engine::start(&clinic.services);
    let running = || async {
        (state(&clinic.services).await == Some(RotationState::ReEncrypting)).then_some(())
    };
    until("batches", async || running().await).await;
    drop(engine);
    use sea_orm::EntityTrait;
    let db = clinic.services.store.db();
    outbox::Entity::delete_many().exec(db).await.unwrap();
    // The rows are looked at again after 30 s; the test does not wait for that.
    for table in ["rotation", "batch"] {
        db.execute_unprepared(&format!("UPDATE {table} SET resend_at = 0"))
            .await
            .unwrap();
    }
    db.execute_unprepared("DELETE FROM lease").await.unwrap();
    let _engine = Engine::start(&clinic.services);
    until("completion", async || {
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    clinic.assert_readable("lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_message_is_filed_and_the_queue_flows_on() {
    let clinic = Clinic::new().await;
    let db = clinic.services.store.db();
    for (id, event) in [
        ("01", "not json"),
        (
            "02",
            r#"{"specversion":"1.0","id":"1","source":"/x","type":"no.such.type","data":{}}"#,
        ),
    ] {
        let insert = format!(
            "INSERT INTO outbox (id, exchange, queue, type, event, available_at, leased_until, lease_token) \
             VALUES (x'{id}000000000000000000000000000000', 'rekey', 'rotator', 'x', '{event}', 0, 0, 0)"
        );
        db.execute_unprepared(&insert).await.unwrap();
    }
    let _engine = Engine::start(&clinic.services);
    rotate(
        &clinic.services,
        &"phi".parse().unwrap(),
        RotationReason::Request,
        &operator(),
    )
    .await
    .unwrap();
    until("completion", async || {
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    assert_eq!(dead_letters::open(db).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_are_quarantined_with_their_reason_and_left_as_they_were() {
    let clinic = Clinic::new().await;
    let pool = &clinic.source;
    let run = |sql: &'static str| sqlx::query(sql).execute(pool);
    // A flipped bit, two rows exchanged, plain text, a key nobody has, a key of another keyring.
    run("UPDATE patients SET ssn = substr(ssn, 1, length(ssn) - 1) || x'00' WHERE id = 3")
        .await
        .unwrap();
    run("UPDATE patients SET ssn = CAST(ssn AS BLOB) WHERE id = 3")
        .await
        .unwrap();
    run("CREATE TABLE swap AS SELECT id, ssn FROM patients WHERE id IN (10, 11)")
        .await
        .unwrap();
    run("UPDATE patients SET ssn = (SELECT ssn FROM swap WHERE swap.id = 21 - patients.id) WHERE id IN (10, 11)").await.unwrap();
    run("UPDATE patients SET notes = 'in plain text' WHERE id = 20")
        .await
        .unwrap();
    run("UPDATE patients SET ssn = x'01deadbeef' || substr(ssn, 6) WHERE id = 30")
        .await
        .unwrap();
    run("UPDATE patients SET ssn = CAST(ssn AS BLOB) WHERE id = 30")
        .await
        .unwrap();
    let other = clinic
        .services
        .client
        .encryption_key(&"other".parse().unwrap(), 1)
        .await
        .unwrap();
    let foreign = other.encrypt(b"x", b"elsewhere").unwrap();
    sqlx::query("UPDATE patients SET ssn = ? WHERE id = 40")
        .bind(foreign)
        .execute(pool)
        .await
        .unwrap();
    let before = bad_rows(&clinic).await;

    let _engine = Engine::start(&clinic.services);
    rotate(
        &clinic.services,
        &"phi".parse().unwrap(),
        RotationReason::Request,
        &operator(),
    )
    .await
    .unwrap();
    until("completion", async || {
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;

    let listed = quarantine::open(clinic.services.store.db()).await.unwrap();
    let reasons: BTreeMap<_, _> = listed
        .iter()
        .map(|bad| (bad.row_key.as_str(), bad.reason.0.to_string()))
        .collect();
    let expected = [
        ("rowid 10", "wrong-context"),
        ("rowid 11", "wrong-context"),
        ("rowid 20", "not-ciphertext"),
        ("rowid 3", "corrupt"),
        ("rowid 30", "missing-key"),
        ("rowid 40", "other-keyring"),
    ];
    assert_eq!(
        reasons,
        expected
            .map(|(row, reason)| (row, reason.to_owned()))
            .into()
    );
    assert_eq!(bad_rows(&clinic).await, before, "left as they were");
    let rotation = &rotation_views(&clinic.services).await.unwrap()[0];
    assert_eq!(
        (
            rotation.quarantined,
            rotation.certificate.as_ref().unwrap()["quarantined"].as_u64()
        ),
        (6, Some(6))
    );
    let left: i64 = sqlx::query("SELECT count(*) AS n FROM patients WHERE hex(substr(ssn, 1, 5)) <> (SELECT hex(substr(ssn, 1, 5)) FROM patients WHERE id = 1)")
        .fetch_one(pool).await.unwrap().get("n");
    assert_eq!(left, 5, "the rest is done");
}

async fn bad_rows(clinic: &Clinic) -> Vec<(Vec<u8>, String)> {
    let rows = sqlx::query(
        "SELECT ssn, notes FROM patients WHERE id IN (3, 10, 11, 20, 30, 40) ORDER BY id",
    );
    let rows = rows.fetch_all(&clinic.source).await.unwrap();
    // Only the bad value of each row stays: the other column of the row is moved.
    rows.iter()
        .enumerate()
        .map(|(index, row)| {
            if index == 3 {
                (Vec::new(), row.get("notes"))
            } else {
                (row.get("ssn"), String::new())
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_back_and_forth_changes_nothing_but_the_waiting() {
    let start: DateTime<Utc> = "2026-03-28T22:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::at(start));
    let clinic = Clinic::at(clock.clone()).await;
    clinic.ask().await;
    let _engine = Engine::start(&clinic.services);
    let mut steps = [3_600, -3_600, 86_400, -7_200, 1, -86_400, 600, 3_600, 7_200]
        .into_iter()
        .cycle();
    until("completion", async || {
        clock.step(TimeDelta::seconds(steps.next().unwrap()));
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    // Keys made in the future by a stepped clock may have expired since: that asks for more rotations.
    clinic.assert_readable("clock").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_on_one_store_share_the_work_and_do_nothing_twice() {
    let clinic = Clinic::new().await;
    let mut second = clinic.services.clone();
    second.holder = "another process".to_owned();
    clinic.ask().await;
    let _first = Engine::start(&clinic.services);
    let _second = Engine::start(&second);
    clinic.wait_until_completed("two engines").await;
    clinic.assert_whole("two engines").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_that_was_tampered_with_says_where() {
    let clinic = Clinic::new().await;
    let db = clinic.services.store.db();
    let verify = async || {
        verify_audit(&clinic.services, &operator())
            .await
            .unwrap()
            .problems
    };
    assert!(verify().await.is_empty());
    let stranger = Principal::app("portal");
    assert!(verify_audit(&clinic.services, &stranger).await.is_err());
    db.execute_unprepared("UPDATE audit_entry SET outcome = 'refused' WHERE sequence = 2")
        .await
        .unwrap();
    assert!(
        verify()
            .await
            .iter()
            .any(|problem| problem.contains("entry 2 was changed"))
    );
    db.execute_unprepared("UPDATE audit_entry SET outcome = 'done' WHERE sequence = 2")
        .await
        .unwrap();
    db.execute_unprepared("UPDATE audit_detail SET details = (SELECT details FROM audit_detail WHERE sequence = 1) WHERE sequence = 2").await.unwrap();
    assert!(
        verify()
            .await
            .iter()
            .any(|problem| problem.contains("details of entry 2"))
    );
    use sea_orm::EntityTrait;
    audit_entry::Entity::delete_by_id(3).exec(db).await.unwrap();
    assert!(
        verify()
            .await
            .iter()
            .any(|problem| problem.contains("missing"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_keyring_rotates_and_its_chain_still_verifies() {
    let clinic = Clinic::new().await;
    let audit = "audit".parse().unwrap();
    let mut policy = rekey_store::keyrings::by_name(clinic.services.store.db(), &audit)
        .await
        .unwrap()
        .policy
        .0;
    policy.timing.keyset_max_age = Duration::from_millis(100);
    policy.timing.grace_period = Duration::from_millis(600);
    policy.timing.sweep_every = Duration::from_millis(500);
    policy.encrypt_lease = Duration::from_millis(300);
    let unit = clinic
        .services
        .store
        .begin(clinic.services.clock.now())
        .await
        .unwrap();
    let keyring = rekey_store::keyrings::by_name(unit.db(), &audit)
        .await
        .unwrap();
    rekey_store::keyrings::set_policy(&unit, keyring.id, &policy)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let _engine = Engine::start(&clinic.services);
    rotate(
        &clinic.services,
        &audit,
        RotationReason::Request,
        &operator(),
    )
    .await
    .unwrap();
    until("completion", async || {
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_what_it_was_touches_no_row_and_fails_the_rotation() {
    let clinic = Clinic::new().await;
    let stored =
        || sqlx::query("SELECT ssn, notes FROM patients ORDER BY id").fetch_all(&clinic.source);
    let values = |rows: Vec<sqlx::sqlite::SqliteRow>| {
        rows.iter()
            .map(|row| (row.get("ssn"), row.get("notes")))
            .collect::<Vec<(Vec<u8>, String)>>()
    };
    let before = values(stored().await.unwrap());
    let swapped = "UPDATE \"key\" SET check_value = zeroblob(32) WHERE version = 1 AND keyring_id = \
                   (SELECT id FROM keyring WHERE name = 'phi')";
    clinic
        .services
        .store
        .db()
        .execute_unprepared(swapped)
        .await
        .unwrap();
    // A process that never held the key.
    let services = clinic.reopened();
    let _engine = Engine::start(&services);
    rotate(
        &services,
        &"phi".parse().unwrap(),
        RotationReason::Request,
        &operator(),
    )
    .await
    .unwrap();
    until("failure", async || {
        (state(&services).await == Some(RotationState::Failed)).then_some(())
    })
    .await;
    assert_eq!(values(stored().await.unwrap()), before);
    let status = rekey_operations::status(&services).await.unwrap();
    assert!(
        status
            .needs_a_person
            .iter()
            .any(|need| need.contains("check value")),
        "{:?}",
        status.needs_a_person
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_goes_away_and_comes_back_only_delays_the_rotation() {
    let clinic = Clinic::new().await;
    let (here, away) = (
        clinic.dir.path().join("source.db"),
        clinic.dir.path().join("elsewhere.db"),
    );
    clinic.source.close().await;
    std::fs::rename(&here, &away).unwrap();
    let engine = Engine::start(&clinic.services);
    rotate(
        &clinic.services,
        &"phi".parse().unwrap(),
        RotationReason::Request,
        &operator(),
    )
    .await
    .unwrap();
    until("the switch", async || {
        (state(&clinic.services).await == Some(RotationState::ReEncrypting)).then_some(())
    })
    .await;
    std::fs::rename(&away, &here).unwrap();
    until("completion", async || {
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    drop(engine);
    assert!(
        dead_letters::open(clinic.services.store.db())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_ticks_fire_one_rotation_late_though_two_schedulers_run() {
    let clock = Arc::new(ManualClock::at("2026-03-02T10:30:00Z".parse().unwrap()));
    let clinic = Clinic::at(clock.clone()).await;
    let db = clinic.services.store.db();
    let phi = rekey_store::keyrings::by_name(db, &"phi".parse().unwrap())
        .await
        .unwrap();
    let policy = rekey_domain::KeyringPolicy {
        rotate: Some("0 * * * *".to_owned()),
        ..phi.policy.0.clone()
    };
    let unit = clinic
        .services
        .store
        .begin(clinic.services.clock.now())
        .await
        .unwrap();
    rekey_store::keyrings::set_policy(&unit, phi.id, &policy)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let mut second = clinic.services.clone();
    second.holder = "another process".to_owned();
    let (_first, _second) = (Engine::start(&clinic.services), Engine::start(&second));
    let settled = || rekey_store::entities::schedule::Entity::find_by_id("rotate/phi").one(db);
    use sea_orm::EntityTrait;
    until("the schedule is known", async || settled().await.unwrap()).await;
    assert_eq!(state(&clinic.services).await, None, "no tick is due yet");

    clock.step(TimeDelta::hours(7));
    until("the late tick", async || state(&clinic.services).await).await;
    let tick: DateTime<Utc> = "2026-03-02T17:00:00Z".parse().unwrap();
    until("settled", async || {
        settled()
            .await
            .unwrap()
            .filter(|row| row.fired_up_to == tick)
    })
    .await;
    until("distribution", async || {
        clock.step(TimeDelta::milliseconds(200));
        (state(&clinic.services).await == Some(RotationState::Completed)).then_some(())
    })
    .await;
    let rotations = rotation_views(&clinic.services).await.unwrap();
    let reasons: Vec<_> = rotations
        .iter()
        .map(|rotation| rotation.reason.as_str())
        .collect();
    assert_eq!(reasons, ["schedule"]);
}
