//! A store and processes around it, over one transport or the other.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rekey_broker::{Delivery, LocalTransport, RabbitMq, RabbitMqOptions, Settlement, Transport};
use rekey_messages::{Event, Message, Queue, RotationDue};
use rekey_store::{ConnectionTrait, Store, outbox};
use rekey_testkit::rabbitmq::TestBroker;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Far longer than anything here takes, but for a broker that is gone.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a message that is there to be delivered.
pub const WHILE: Duration = Duration::from_millis(700);

/// One store, whose processes come and go.
#[async_trait]
pub trait World: Send + Sync {
    async fn new() -> Self;
    /// The store as the test has it.
    fn store(&self) -> &Store;
    /// A process that consumes these queues.
    async fn process(&self, queues: &[Queue]) -> Process;
    /// How many processes a broadcast reaches.
    fn listening(&self) -> usize;
    /// What a dead process held is found to be free.
    async fn forget_the_dead(&self);
    /// Waits until what was sent has reached the processes that consume it.
    async fn everything_is_at_hand(&self);
}

/// A store in a file, which processes open for themselves.
pub struct Files {
    pub store: Store,
    dir: TempDir,
}

impl Files {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir).await;
        store.migrate().await.unwrap();
        Self { store, dir }
    }

    pub async fn another(&self) -> Store {
        open(&self.dir).await
    }
}

async fn open(dir: &TempDir) -> Store {
    let file = dir.path().join("store.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    Store::connect(&url).await.unwrap()
}

pub struct Local(Files);

#[async_trait]
impl World for Local {
    async fn new() -> Self {
        Self(Files::new().await)
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    async fn process(&self, _: &[Queue]) -> Process {
        let transport = Arc::new(LocalTransport::new(self.0.another().await));
        let running = transport.clone();
        Process::run(
            transport,
            |shutdown| async move { running.run(shutdown).await },
        )
    }

    /// The process that finds it tells its own listeners.
    fn listening(&self) -> usize {
        1
    }

    async fn forget_the_dead(&self) {
        let sql = "UPDATE outbox SET leased_until = 0";
        self.0.store.db().execute_unprepared(sql).await.unwrap();
    }

    async fn everything_is_at_hand(&self) {}
}

pub struct Rabbit {
    pub files: Files,
    pub broker: TestBroker,
}

#[async_trait]
impl World for Rabbit {
    async fn new() -> Self {
        let (files, broker) = (Files::new().await, TestBroker::create().await);
        Self { files, broker }
    }

    fn store(&self) -> &Store {
        &self.files.store
    }

    async fn process(&self, queues: &[Queue]) -> Process {
        let (process, rabbit) = self.start(&self.broker.url(), queues).await;
        timeout(SOON, rabbit.ready()).await.expect("connects");
        process
    }

    fn listening(&self) -> usize {
        3
    }

    async fn forget_the_dead(&self) {}

    /// Nobody says when what the broker has reaches a process.
    async fn everything_is_at_hand(&self) {
        let shipped = async {
            while outbox::depth(self.store()).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, shipped).await.expect("it is shipped");
        tokio::time::sleep(WHILE).await;
    }
}

impl Rabbit {
    pub fn options(&self, url: &str, queues: &[Queue]) -> RabbitMqOptions {
        RabbitMqOptions {
            url: url.to_owned(),
            prefix: self.broker.prefix().to_owned(),
            name: self.broker.prefix().to_owned(),
            consume: queues.iter().map(|queue| (*queue, 8)).collect(),
        }
    }

    /// A process that may not be connected yet.
    pub async fn start(&self, url: &str, queues: &[Queue]) -> (Process, Arc<RabbitMq>) {
        let store = self.files.another().await;
        let rabbit = Arc::new(RabbitMq::new(&self.options(url, queues), store).unwrap());
        let running = rabbit.clone();
        let process = Process::run(rabbit.clone(), |shutdown| async move {
            running.run(shutdown).await;
        });
        (process, rabbit)
    }

    pub async fn declare(&self) {
        let options = self.options(&self.broker.url(), &[]);
        RabbitMq::declare(&options).await.unwrap();
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.broker.prefix())
    }
}

/// A transport that runs in a process of its own, as far as anybody can tell.
pub struct Process {
    pub transport: Arc<dyn Transport>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Process {
    fn run<F>(transport: Arc<dyn Transport>, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(shutdown.clone()));
        Self {
            transport,
            shutdown,
            running,
        }
    }

    pub async fn receive(&self, queue: Queue) -> Delivery {
        self.receive_first(&[queue]).await
    }

    pub async fn receive_first(&self, queues: &[Queue]) -> Delivery {
        let received = timeout(SOON, self.transport.receive(queues)).await;
        received.expect("a delivery soon").unwrap()
    }

    pub async fn receives_nothing(&self, queue: Queue) -> bool {
        timeout(WHILE, self.transport.receive(&[queue]))
            .await
            .is_err()
    }

    pub async fn settle(&self, delivery: &Delivery, settlement: Settlement) -> bool {
        let settled = self.transport.settle(delivery.receipt.clone(), settlement);
        settled.await.unwrap()
    }

    /// Dies without settling anything.
    pub async fn die(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// Sends a message as a handler would: a row that commits.
pub async fn send<M: Message>(store: &Store, message: &M) {
    let unit = store.begin().await.unwrap();
    unit.send(message).await.unwrap();
    unit.commit().await.unwrap();
}

pub async fn send_due(store: &Store) -> Uuid {
    let rotation = Uuid::now_v7();
    send(store, &RotationDue { rotation }).await;
    rotation
}

pub fn rotation_of(delivery: &Delivery) -> Uuid {
    let event = Event::parse(delivery.body.as_bytes()).unwrap();
    event.message::<RotationDue>().unwrap().rotation
}

/// Looks until it is so.
pub async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(2 * SOON, looking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

pub async fn outbox_empties(store: &Store) {
    until("the outbox is empty", async || {
        outbox::depth(store).await.unwrap() == 0
    })
    .await;
}
