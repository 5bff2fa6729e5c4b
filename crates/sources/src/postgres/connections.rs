//! A few connections, and the session settings that each of them has.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::faults::Located;
use crate::{SourceError, place::Place};

/// How long a call waits for a connection of ours, or for a server that starts.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to answer before it counts as out of reach.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: u32 = 8;
/// Statements that a session keeps prepared: what each batch asks again, word for word.
const STATEMENTS_KEPT: usize = 24;
/// Bytes of values for which a connection's buffers may stay as large as they grew.
const ROOM_KEPT: usize = 1 << 20;
/// Ranges over a column's place in the heap are read in order since this version.
const OLDEST_VERSION: i32 = 140_000;

/// - `lock_timeout` is below `deadlock_timeout`: we give way before the application becomes the
///   victim of a deadlock.
/// - `row_security = off` fails loudly where a policy would hide rows.
/// - The planner has one way to do what we ask, by place in the heap, and in the heap's order. Its
///   other ways look cheaper on small tables, and would read all of a large one.
/// - A database in SQL_ASCII holds whatever bytes it was given; asked for UTF-8, it would fail a
///   whole statement for one value that is none.
const SETTINGS: &str = "\
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET lock_timeout = '200ms'; \
    SET statement_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SET row_security = off; \
    SET standard_conforming_strings = on; \
    SET enable_seqscan = off; \
    SET enable_hashjoin = off; \
    SET enable_mergejoin = off; \
    SET synchronize_seqscans = off; \
    SET max_parallel_workers_per_gather = 0; \
    SET jit = off; \
    SELECT set_config('client_encoding', 'SQL_ASCII', false) WHERE getdatabaseencoding() = 'SQL_ASCII'";

/// The connections of one source.
pub(super) struct Connections {
    options: PgConnectOptions,
    database: Arc<str>,
    pool: PgPool,
}

impl Connections {
    pub(super) async fn open(url: &str) -> Result<Self, SourceError> {
        let bad = |_| SourceError::BadUrl {
            problem: "cannot be read",
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(bad)?
            .application_name("rekey")
            .statement_cache_capacity(STATEMENTS_KEPT)
            .disable_statement_logging();
        let connections = Self {
            database: label(&options).into(),
            pool: pool(&options),
            options,
        };
        connections.check().await?;
        tracing::debug!(database = %connections.database, "opened a source");
        Ok(connections)
    }

    /// The database, as errors name it.
    pub(super) fn database(&self) -> &Arc<str> {
        &self.database
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, SourceError> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.reason().await),
            acquired => acquired.at(&Place::database(&self.database)),
        }
    }

    /// The pool says only that it waited in vain: a connection of its own says why.
    async fn reason(&self) -> SourceError {
        match self.connect().await {
            Err(error) => error,
            Ok(_) => SourceError::Busy {
                database: self.database.to_string(),
                waited_for: "a connection of ours",
            },
        }
    }

    async fn connect(&self) -> Result<PgConnection, SourceError> {
        let connecting = PgConnection::connect_with(&self.options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.at(&Place::database(&self.database)),
            Err(_) => Err(SourceError::OutOfReach {
                database: self.database.to_string(),
                reason: "it did not answer".to_owned(),
            }),
        }
    }

    /// Connects once, so that what is wrong is found when the source is opened.
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.connect().await?;
        let place = Place::database(&self.database);
        let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::int4");
        let version: i32 = version.fetch_one(&mut connection).await.at(&place)?;
        // What the connection was for is done; how it ends is of no interest.
        let _ = connection.close().await;
        if version >= OLDEST_VERSION {
            return Ok(());
        }
        Err(SourceError::Database {
            database: place.database.to_string(),
            relation: place.relation,
            reason: format!(
                "expected PostgreSQL {} or later, found {}",
                OLDEST_VERSION / 10_000,
                version / 10_000
            ),
        })
    }
}

/// Gives back what the connection's buffers grew by, after so many bytes of values went through: they
/// would keep it, on each connection of the pool.
pub(super) fn shrink(connection: &mut PgConnection, bytes: usize) {
    if bytes > ROOM_KEPT {
        connection.shrink_buffers();
    }
}

fn label(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    format!("PostgreSQL {database} at {host}:{port}")
}

fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(SETTINGS).execute(connection).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.clone())
}
