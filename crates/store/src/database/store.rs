//! The store's database, and the units of work on it.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::{
    StoreError, Unit,
    database::{
        connect,
        place::{place, sqlite_file},
        time::{database_time, in_milliseconds, relaxed_database_time},
        wakes::Wakes,
    },
};

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
    url: String,
    connections: Option<u32>,
    /// SQLite has one writer at a time; waiting here in order beats polling its lock.
    writer: Option<Arc<Mutex<()>>>,
    wakes: Wakes,
}

impl Store {
    /// Connects. The schema is not looked at; see [`Store::check_schema`].
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when there is no such database or it does not answer,
    /// [`StoreError::Url`] when no database is meant.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_within(url, None).await
    }

    /// The same with so many connections to PostgreSQL at most.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_within(url: &str, connections: Option<u32>) -> Result<Self, StoreError> {
        let db = connect::connect(url, connections).await?;
        let writer = (db.get_database_backend() == DbBackend::Sqlite).then(Arc::default);
        Ok(Self {
            wakes: Wakes::new(&db, place(url)),
            db,
            url: url.to_owned(),
            connections,
            writer,
        })
    }

    /// The file of a SQLite store.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let sqlite = self.db.get_database_backend() == DbBackend::Sqlite;
        sqlite.then(|| sqlite_file(&self.url))
    }

    /// Which it is, for people: without user and password.
    pub fn place(&self) -> String {
        place(&self.url)
    }

    /// Where the store is, for the source `rekey`, which is the store itself.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The most connections that it was limited to; none: the default.
    pub fn connections(&self) -> Option<u32> {
        self.connections
    }

    /// For reading. Whatever writes goes through [`Store::begin`].
    pub fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    /// The time by the database's clock, for decisions outside of a unit.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when the database does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(in_milliseconds(database_time(&self.db).await?))
    }

    /// Begins a unit of work.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when the database does not answer.
    pub async fn begin(&self) -> Result<Unit, StoreError> {
        let writer = match &self.writer {
            Some(writer) => Some(writer.clone().lock_owned().await),
            None => None,
        };
        let tx = self.db.begin_with_options(immediate()).await?;
        let now = database_time(&tx).await?;
        Ok(self.unit(tx, now, writer))
    }

    /// Begins a unit whose commit does not wait for the disk: for leases and for what was shipped. A
    /// crash of the database may take it back, and then the work is leased or shipped once more.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when the database does not answer.
    pub async fn begin_forgettable(&self) -> Result<Unit, StoreError> {
        if self.db.get_database_backend() != DbBackend::Postgres {
            return self.begin().await;
        }
        let tx = self.db.begin().await?;
        let now = relaxed_database_time(&tx).await?;
        Ok(self.unit(tx, now, None))
    }

    fn unit(&self, tx: DatabaseTransaction, now: i64, writer: Option<OwnedMutexGuard<()>>) -> Unit {
        Unit::new(tx, now, self.wakes.clone(), writer)
    }

    /// Changes whenever a unit of this process commits, and soon after another process sent
    /// something; what waits for work wakes by it. Only a hint: whoever waits must also look at times.
    ///
    /// Called within a Tokio runtime.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.wakes.changes()
    }
}

/// SQLite has one writer at a time: whoever will write says so at once, and waits its turn.
pub(crate) fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::database::test_store::{Kind, TestStore};

    #[tokio::test]
    async fn what_cannot_be_opened_is_out_of_reach() {
        let nobody = "postgres://u:secret@127.0.0.1:1/x";
        for (url, why) in [
            (
                "sqlite:///no/such/directory/store.db?mode=rw",
                "cannot be opened",
            ),
            (nobody, "nothing listens there"),
            (
                "postgres://u:secret@nowhere.invalid/x",
                "host's name is not known",
            ),
        ] {
            let error = Store::connect(url).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            let out_of_reach = matches!(error, StoreError::OutOfReach(_));
            assert!(out_of_reach && error.is_retryable(), "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn units_are_stamped_with_the_databases_time() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let before = store.now().await.unwrap();
            let unit = store.unit().await;
            let after = in_milliseconds(database_time(unit.db()).await.unwrap());
            assert!((before..=after).contains(&unit.now()), "{}", unit.now());
            let stamped = unit.now().timestamp_millis();
            assert_eq!(stamped, unit.database_time_in(Duration::ZERO));
        }
    }
}
