//! A few connections to the file the path names now, even if someone replaces it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    faults::Located,
    file::{self, FileId},
};
use crate::{SourceError, place::Place};

/// How long a statement waits for a lock of the application's; a commit may come this late.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call waits for a connection of ours; writers hold theirs while they wait for a turn.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: u32 = 4;
/// How a URL may ask for the file to be opened. `rwc` is for the store's own file, which may be made; a source makes
/// none.
const MODES: [&str; 3] = ["rw", "ro", "rwc"];
/// Rows read ahead of the page that is being filled. Values may be megabytes each.
const ROWS_AHEAD: usize = 4;

/// The connections of one source.
pub(super) struct Connections {
    options: SqliteConnectOptions,
    path: PathBuf,
    /// Where it led when it was opened.
    real: PathBuf,
    database: Arc<str>,
    current: Mutex<Opened>,
}

/// The connections to one file. An open connection would go on in a file that was deleted or
/// replaced (a restore), and what it wrote would be gone.
struct Opened {
    pool: SqlitePool,
    file: FileId,
}

impl Connections {
    pub(super) async fn open(url: &str) -> Result<Self, SourceError> {
        let options = options(url)?;
        let path = options.get_filename().to_owned();
        // A relative one is another file elsewhere.
        let shown = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let database: Arc<str> = format!("SQLite {}", shown.display()).into();
        let file = FileId::of(&path, &database).await?;
        let real = file::real_path(&path, &database).await?;
        let pool = pool(&options);
        let current = Mutex::new(Opened { pool, file });
        let connections = Self {
            options,
            path,
            real,
            database,
            current,
        };
        connections.check().await?;
        tracing::debug!(database = %connections.database, "opened a source");
        Ok(connections)
    }

    /// The database, as errors name it.
    pub(super) fn database(&self) -> &Arc<str> {
        &self.database
    }

    /// The file, as the URL names it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, whatever links lead to it.
    pub(super) async fn real_path(&self) -> Result<PathBuf, SourceError> {
        file::real_path(&self.path, &self.database).await
    }

    /// What tells the file from all others.
    pub(super) async fn instance(&self) -> Result<String, SourceError> {
        let file = FileId::of(&self.path, &self.database).await?;
        match file.as_text() {
            Some(text) => Ok(text),
            None => Ok(self.real_path().await?.display().to_string()),
        }
    }

    /// A connection to the file that the path names now. Another file in its place is a restore; a link that
    /// leads to another place is another database.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Sqlite>, SourceError> {
        let real = self.real_path().await?;
        if real != self.real {
            return Err(SourceError::OutOfReach {
                database: self.database.to_string(),
                reason: format!(
                    "its link leads to {} now, and led to {} when this process opened it",
                    real.display(),
                    self.real.display()
                ),
            });
        }
        let file = FileId::of(&self.path, &self.database).await?;
        let pool = self.pool_of(file);
        pool.acquire().await.at(&Place::database(&self.database))
    }

    fn pool_of(&self, file: FileId) -> SqlitePool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.file != file {
            let pool = pool(&self.options);
            *current = Opened { pool, file };
        }
        current.pool.clone()
    }

    /// Reads the file's header, so that a file that is no database is found when it is opened.
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.acquire().await?;
        let read = sqlx::query("PRAGMA schema_version").execute(&mut *connection);
        read.await.at(&Place::database(&self.database))?;
        Ok(())
    }
}

/// The file that a URL names.
pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    Some(options(url).ok()?.get_filename().to_owned())
}

fn options(url: &str) -> Result<SqliteConnectOptions, SourceError> {
    let bad = |problem| SourceError::BadUrl { problem };
    // An in-memory database is ours alone; no application has rows in it.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(bad("names a database in memory"));
    }
    if let Some(problem) = rekey_domain::sqlite_parameter_problem(url, &MODES) {
        return Err(bad(problem));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|_| bad("cannot be read"))?;
    let path = options.get_filename().as_os_str();
    if path.is_empty() {
        return Err(bad("names no file"));
    }
    // SQLite would read parameters out of such a name.
    if path.as_encoded_bytes().starts_with(b"file:") {
        return Err(bad("names a file by another URL"));
    }
    Ok(options
        .create_if_missing(false)
        // SQLite's own default: an update of ours must not cascade into other tables.
        .foreign_keys(false)
        // Whatever the application does, a commit of ours is on the disk when it returns, with the
        // directory of the journal that it ends.
        .synchronous(SqliteSynchronous::Extra)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging())
}

fn pool(options: &SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_out_of_transaction(connection)))
        .connect_lazy_with(options.clone())
}

/// Whether a connection that was given back may be used again. SQLite rolls a transaction back by
/// itself when its commit meets a full disk; sqlx then counts on in a transaction that is none.
async fn is_out_of_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}
