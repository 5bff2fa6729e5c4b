//! Wakes whoever waits for work: here at once, in other processes on PostgreSQL by a hint. Polling carries all.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use sea_orm::{
    DatabaseConnection, DbBackend,
    sqlx::{self, PgPool, postgres::PgListener},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::database::faults::of_driver;

const CHANNEL: &str = "rekey";
/// Everything sent within this makes one notification: each takes a lock of the whole server.
const AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// How long to leave a database alone that does not answer.
const RETREAT: Duration = Duration::from_secs(1);

/// Tells this process, and others.
#[derive(Debug, Clone)]
pub(crate) struct Wakes {
    changed: watch::Sender<u64>,
    others: Option<Arc<Others>>,
}

impl Wakes {
    /// `place` is the store, for people.
    pub(crate) fn new(db: &DatabaseConnection, place: String) -> Self {
        let postgres = db.get_database_backend() == DbBackend::Postgres;
        let pool = || db.get_postgres_connection_pool();
        let others = postgres.then(|| Arc::new(Others::new(pool(), place)));
        Self {
            changed: watch::Sender::new(0),
            others,
        }
    }

    /// A unit has committed; others need to know if it sent something.
    pub(crate) fn wake(&self, sent: bool) {
        bump(&self.changed);
        if let (true, Some(others)) = (sent, &self.others) {
            others.tell();
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        if let Some(others) = &self.others {
            others.listen(&self.changed);
        }
        self.changed.subscribe()
    }
}

fn bump(changed: &watch::Sender<u64>) {
    changed.send_modify(|count| *count = count.wrapping_add(1));
}

/// The other processes on the same database. Its tasks begin when they are needed, and end with it.
#[derive(Debug)]
struct Others {
    pool: PgPool,
    place: String,
    /// Tells our own notifications from theirs.
    process: String,
    sent: Arc<Notify>,
    speaker: OnceLock<AbortHandle>,
    listener: OnceLock<AbortHandle>,
}

impl Others {
    fn new(pool: &PgPool, place: String) -> Self {
        Self {
            pool: pool.clone(),
            place,
            process: format!("{:016x}", rand::random::<u64>()),
            sent: Arc::default(),
            speaker: OnceLock::new(),
            listener: OnceLock::new(),
        }
    }

    fn tell(&self) {
        self.sent.notify_one();
        self.speaker.get_or_init(|| {
            let speaking = speak(self.pool.clone(), self.process.clone(), self.sent.clone());
            tokio::spawn(speaking).abort_handle()
        });
    }

    fn listen(&self, changed: &watch::Sender<u64>) {
        self.listener.get_or_init(|| {
            let heard = (self.process.clone(), changed.clone());
            let listening = listen(self.pool.clone(), self.place.clone(), heard);
            tokio::spawn(listening).abort_handle()
        });
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let tasks = [&self.speaker, &self.listener];
        tasks
            .into_iter()
            .filter_map(OnceLock::get)
            .for_each(AbortHandle::abort);
    }
}

async fn speak(pool: PgPool, process: String, sent: Arc<Notify>) {
    loop {
        sent.notified().await;
        let notify = sqlx::query("SELECT pg_catalog.pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(&process);
        if let Err(error) = notify.execute(&pool).await {
            let error = of_driver(&error);
            tracing::debug!(error, "other processes find it when they look");
        }
        tokio::time::sleep(AT_MOST_EVERY).await;
    }
}

/// The one connection that a worker always has. Logs once when it is lost, and once when it is back.
async fn listen(pool: PgPool, place: String, heard: (String, watch::Sender<u64>)) {
    let mut lost = false;
    loop {
        if let Err(error) = hear(&pool, &place, &heard, &mut lost).await {
            let error = of_driver(&error);
            if lost {
                tracing::debug!(error, "not listening; looking at times carries all");
            } else {
                tracing::warn!(
                    "the connection to the store, {place}, is lost: {error}; connecting again"
                );
            }
            lost = true;
        }
        tokio::time::sleep(RETREAT).await;
    }
}

async fn hear(
    pool: &PgPool,
    place: &str,
    (process, changed): &(String, watch::Sender<u64>),
    lost: &mut bool,
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    // A reconnect by sqlx would go unnoticed, and people could not read of the loss.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    if std::mem::take(lost) {
        tracing::info!("connected to the store, {place}, again");
    }
    // Whatever was said while the connection was lost.
    bump(changed);
    loop {
        match listener.try_recv().await? {
            Some(notification) if notification.payload() == process => {}
            Some(_) => bump(changed),
            None => return Err(sqlx::Error::WorkerCrashed),
        }
    }
}

#[cfg(test)]
mod tests {
    use rekey_messages::RotationDue;
    use uuid::Uuid;

    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
    };

    const SOON: std::time::Duration = std::time::Duration::from_secs(10);

    async fn send(store: &Store) {
        let unit = store.begin().await.unwrap();
        let rotation = Uuid::now_v7();
        unit.send(&RotationDue { rotation }).await.unwrap();
        unit.commit().await.unwrap();
    }

    async fn listeners_become(store: &TestStore, count: i64) {
        let become_so = async { while store.listeners().await != count {} };
        tokio::time::timeout(SOON, become_so).await.unwrap();
    }

    #[tokio::test]
    async fn what_one_process_sends_wakes_another_on_postgresql() {
        let store = TestStore::new(Kind::Postgres).await;
        let elsewhere = store.another().await;
        let mut changes = elsewhere.changes();
        listeners_become(&store, 1).await;
        send(&store).await;
        tokio::time::timeout(SOON, changes.changed())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_store_that_is_dropped_listens_no_longer() {
        let store = TestStore::new(Kind::Postgres).await;
        let elsewhere = store.another().await;
        let changes = elsewhere.changes();
        send(&elsewhere).await;
        listeners_become(&store, 1).await;
        drop((elsewhere, changes));
        listeners_become(&store, 0).await;
    }
}
