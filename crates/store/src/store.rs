//! The connection to the store's database.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use rekey_migrations::Migrator;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
    sqlx::{
        self, Connection, SqliteConnection,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};
use sea_orm_migration::MigratorTrait;
use tokio::sync::{Mutex, watch};

use crate::{StoreError, Unit};

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
    url: String,
    /// SQLite has one writer at a time; waiting here in order beats polling its lock.
    writer: Option<Arc<Mutex<()>>>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// Connects. The schema is not looked at; see [`Store::check_schema`].
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when there is no such database or it does not answer.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(4)
            .sqlx_logging(false)
            .acquire_timeout(Duration::from_secs(30));
        options.map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(20))
        });
        options.map_sqlx_sqlite_pool_opts(|pool| {
            pool.after_release(|connection, _| Box::pin(is_out_of_transaction(connection)))
        });
        let db = Database::connect(options)
            .await
            .map_err(StoreError::OutOfReach)?;
        let writer = (db.get_database_backend() == DbBackend::Sqlite).then(Arc::default);
        Ok(Self {
            db,
            url: url.to_owned(),
            writer,
            changed: watch::Sender::new(0),
        })
    }

    /// The file of a SQLite store.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let sqlite = self.db.get_database_backend() == DbBackend::Sqlite;
        sqlite.then(|| sqlite_file(&self.url))
    }

    /// Where the store is, for the source `rekey`, which is the store itself.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For reading. Whatever writes goes through [`Store::begin`].
    pub fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Brings the schema up to date; expands only.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the schema is newer than this program.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.refuse_newer_schema().await?;
        Ok(Migrator::up(&self.db, None).await?)
    }

    /// Refuses a schema that this program does not know, newer or older.
    ///
    /// # Errors
    /// [`StoreError::Schema`] names what was found and what to do.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        self.refuse_newer_schema().await?;
        let pending = Migrator::get_pending_migrations(&self.db).await?;
        if pending.is_empty() {
            return Ok(());
        }
        let found = format!("lacks {} migration(s)", pending.len());
        Err(StoreError::Schema {
            found,
            remedy: "run rekey init, or rekey migrate",
        })
    }

    async fn refuse_newer_schema(&self) -> Result<(), StoreError> {
        let known: Vec<String> = Migrator::migrations()
            .iter()
            .map(|m| m.name().to_owned())
            .collect();
        let applied = Migrator::get_migration_models(&self.db)
            .await
            .unwrap_or_default();
        match applied
            .iter()
            .find(|migration| !known.contains(&migration.version))
        {
            None => Ok(()),
            Some(newer) => Err(StoreError::Schema {
                found: format!("has {}, which this program does not know", newer.version),
                remedy: "use the program that made it, or a newer one",
            }),
        }
    }

    /// Begins a unit of work; `now` stamps everything written in it.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] when the database does not answer.
    pub async fn begin(&self, now: DateTime<Utc>) -> Result<Unit, StoreError> {
        let writer = match &self.writer {
            Some(writer) => Some(writer.clone().lock_owned().await),
            None => None,
        };
        let immediate = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let tx = self.db.begin_with_options(immediate).await?;
        // PostgreSQL keeps microseconds; what is hashed must read back as it was.
        Ok(Unit::new(
            tx,
            now.trunc_subsecs(6),
            self.changed.clone(),
            writer,
        ))
    }

    /// Changes whenever a unit of this process commits; what waits for work wakes by it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Whether a connection that was given back may be used again. SQLite rolls a transaction back by
/// itself when its commit meets a full disk; sqlx then counts on in a transaction that is none, and
/// its next one would end in a savepoint and hold the write lock for ever.
async fn is_out_of_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// The file that a SQLite URL names.
pub fn sqlite_file(url: &str) -> PathBuf {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"));
    let path = path.unwrap_or(url);
    PathBuf::from(path.split('?').next().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::test_store::{TestStore, now};

    #[tokio::test]
    async fn a_schema_of_a_newer_program_is_refused_by_name() {
        let store = TestStore::new().await;
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m0999_moon', 0)";
        store.db().execute_unprepared(newer).await.unwrap();
        for refused in [store.check_schema().await, store.migrate().await] {
            let error = refused.unwrap_err();
            assert!(matches!(error, StoreError::Schema { .. }));
            assert!(error.to_string().contains("m0999_moon"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_schema_that_lacks_a_migration_is_refused_until_it_is_migrated() {
        let store = TestStore::unmigrated().await;
        let refused = store.check_schema().await;
        assert!(
            matches!(refused, Err(StoreError::Schema { .. })),
            "{refused:?}"
        );
        store.migrate().await.unwrap();
        store.check_schema().await.unwrap();
        store.migrate().await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_out_of_reach() {
        let refused = Store::connect("sqlite:///no/such/directory/store.db?mode=rw").await;
        let error = refused.unwrap_err();
        assert!(
            matches!(error, StoreError::OutOfReach(_)) && error.is_retryable(),
            "{error}"
        );
    }

    #[tokio::test]
    async fn units_are_stamped_in_microseconds() {
        let store = TestStore::new().await;
        let time = now() + Duration::from_nanos(1_234_567);
        let stamped = store.begin(time).await.unwrap().now();
        assert_eq!(stamped, now() + Duration::from_micros(1_234));
    }
}
