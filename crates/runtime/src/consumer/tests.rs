//! What a worker makes of a handler's answer: each is a row, and each effect is had once.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;
use rekey_broker::LocalTransport;
use rekey_messages::RotationDue;
use rekey_store::{keyrings, outbox};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// How the handler answers, by how often it was called before.
type Answer = fn(u32) -> Result<(), JobError>;

struct Scripted {
    answer: Answer,
    called: Arc<AtomicU32>,
    exhausted: Arc<AtomicU32>,
    attempts: Arc<std::sync::Mutex<Vec<u32>>>,
}

#[async_trait]
impl Handler for Scripted {
    type Command = RotationDue;
    const NAME: &'static str = "test.scripted";

    async fn handle(&self, _: RotationDue, job: &Job) -> Result<(), JobError> {
        let before = self.called.fetch_add(1, SeqCst);
        self.attempts
            .lock()
            .expect("no holder panics")
            .push(job.event().attempt);
        (self.answer)(before)?;
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        keyrings::ensure_deployment(&unit).await?;
        Ok(unit.commit().await?)
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(1),
            cap: Duration::from_millis(1),
        }
    }

    async fn exhausted(&self, _: RotationDue, why: &str, unit: &Unit) -> Result<(), StoreError> {
        assert!(!why.is_empty());
        self.exhausted.fetch_add(1, SeqCst);
        keyrings::ensure_deployment(unit).await?;
        Ok(())
    }
}

struct Fixture {
    store: Store,
    transport: Arc<LocalTransport>,
    called: Arc<AtomicU32>,
    exhausted: Arc<AtomicU32>,
    attempts: Arc<std::sync::Mutex<Vec<u32>>>,
    _dir: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let store = Store::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        Self {
            transport: Arc::new(LocalTransport::new(store.clone())),
            store,
            called: Arc::default(),
            exhausted: Arc::default(),
            attempts: Arc::default(),
            _dir: dir,
        }
    }

    fn event() -> Event {
        let rotation = Uuid::now_v7();
        let time = chrono::DateTime::UNIX_EPOCH;
        Event::of(&RotationDue { rotation }, "/rekey/test", time)
    }

    async fn send(&self, events: &[&Event]) {
        let unit = self.store.begin().await.unwrap();
        for event in events {
            let route = route_of(event).unwrap();
            unit.send_event(event, route, Duration::ZERO).await.unwrap();
        }
        unit.commit().await.unwrap();
    }

    /// Runs a worker that answers so, until the outbox is empty.
    async fn work(&self, answer: Answer) {
        let handler = Scripted {
            answer,
            called: self.called.clone(),
            exhausted: self.exhausted.clone(),
            attempts: self.attempts.clone(),
        };
        let shutdown = CancellationToken::new();
        let worker = Consumer::new(
            &[Queue::Rotator],
            2,
            self.transport.clone(),
            self.store.clone(),
        );
        let running = tokio::spawn(worker.handle(handler).run(shutdown.clone()));
        let emptied = async {
            while outbox::depth(&self.store).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, emptied)
            .await
            .expect("the outbox empties");
        shutdown.cancel();
        running.await.unwrap();
    }

    async fn dead(&self) -> Vec<dead_letters::DeadLetter> {
        dead_letters::open(self.store.db()).await.unwrap()
    }

    async fn took_effect(&self) -> bool {
        keyrings::deployment(self.store.db()).await.is_ok()
    }

    fn attempts(&self) -> Vec<u32> {
        self.attempts.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_and_counted_in_the_row() {
    let fixture = Fixture::new().await;
    fixture.send(&[&Fixture::event()]).await;
    let twice = |before| match before {
        0..2 => Err(JobError::Retry("not yet".into())),
        _ => Ok(()),
    };
    fixture.work(twice).await;
    assert_eq!(fixture.attempts(), [0, 1, 2]);
    assert!(fixture.took_effect().await && fixture.dead().await.is_empty());
}

#[tokio::test]
async fn a_snooze_costs_no_attempt() {
    let fixture = Fixture::new().await;
    fixture.send(&[&Fixture::event()]).await;
    let often = |before| match before {
        0..10 => Err(JobError::Snooze(Duration::from_millis(1))),
        _ => Ok(()),
    };
    fixture.work(often).await;
    assert_eq!(fixture.attempts(), [0; 11]);
    assert!(fixture.took_effect().await && fixture.dead().await.is_empty());
}

#[tokio::test]
async fn after_its_last_attempt_a_message_is_filed_once_and_its_job_told() {
    let fixture = Fixture::new().await;
    let event = Fixture::event();
    fixture.send(&[&event]).await;
    fixture.work(|_| Err(JobError::Retry("never".into()))).await;
    assert_eq!(fixture.attempts(), [0, 1, 2, 3]);
    let dead = fixture.dead().await;
    assert_eq!((dead.len(), dead[0].error.as_str()), (1, "never"));
    assert_eq!(fixture.exhausted.load(SeqCst), 1);
    assert!(fixture.took_effect().await, "in the same unit");
}

#[tokio::test]
async fn what_cannot_succeed_is_filed_at_once() {
    let fixture = Fixture::new().await;
    fixture.send(&[&Fixture::event()]).await;
    fixture
        .work(|_| Err(JobError::Discard("hopeless".into())))
        .await;
    assert_eq!(fixture.attempts(), [0]);
    assert_eq!(fixture.dead().await.len(), 1);
}

#[tokio::test]
async fn a_panic_is_one_failed_attempt() {
    let fixture = Fixture::new().await;
    fixture.send(&[&Fixture::event()]).await;
    fixture
        .work(|before| match before {
            0 => panic!("a bug"),
            _ => Ok(()),
        })
        .await;
    assert_eq!(fixture.attempts(), [0, 1]);
    assert!(fixture.took_effect().await && fixture.dead().await.is_empty());
}

#[tokio::test]
async fn copies_of_a_failing_message_make_one_chain_of_attempts_and_one_dead_letter() {
    let fixture = Fixture::new().await;
    let event = Fixture::event();
    fixture.send(&[&event, &event, &event]).await;
    fixture.work(|_| Err(JobError::Retry("never".into()))).await;
    assert_eq!(fixture.dead().await.len(), 1);
    assert_eq!(fixture.exhausted.load(SeqCst), 1);
    // A copy of the first is tried if none before it is over; only one of them has a next attempt.
    let called = fixture.called.load(SeqCst);
    assert!((1 + 3..=3 + 3).contains(&called), "{called}");
}

#[tokio::test]
async fn a_copy_of_what_took_effect_is_not_handled_again() {
    let fixture = Fixture::new().await;
    let event = Fixture::event();
    fixture.send(&[&event]).await;
    fixture.work(|_| Ok(())).await;
    fixture.send(&[&event, &event]).await;
    fixture.work(|_| Ok(())).await;
    assert_eq!(fixture.attempts(), [0]);
}

#[tokio::test]
async fn what_no_handler_knows_is_filed_as_it_came() {
    let fixture = Fixture::new().await;
    let unknown = Event {
        type_: "rekey.standby.wanted.v1".to_owned(),
        ..Fixture::event()
    };
    fixture.send(&[&unknown, &Fixture::event()]).await;
    fixture.work(|_| Ok(())).await;
    let dead = fixture.dead().await;
    assert_eq!((dead.len(), &dead[0].event), (1, &unknown.to_json()));
    assert!(fixture.took_effect().await, "the queue flowed on");
}
