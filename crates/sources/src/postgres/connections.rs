//! A few connections, and the session settings that each of them has.

use std::{
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    faults::{self, Located},
    identity, pooler,
};
use crate::{SourceError, place::Place};

/// How long a call waits for a connection of ours, or for a server that starts.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to answer before it counts as out of reach.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sessions at a user's database are scarce: one that nothing was done in for so long is ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Statements that a session keeps prepared: what each batch asks again, word for word.
const STATEMENTS_KEPT: usize = 24;
/// Bytes of values for which a connection's buffers may stay as large as they grew.
const ROOM_KEPT: usize = 1 << 20;
/// Ranges over a column's place in the heap are read in order since this version.
const OLDEST_VERSION: i32 = 140_000;

/// The settings of a session, made each time it is taken. A trigger of the user's runs in the session and may have set
/// anything, so everything is first reset to the login's values; only prepared statements stay.
///
/// - The search path keeps only PostgreSQL's own schema, with temporary tables last: no name of ours is found where
///   others may create.
/// - Settings of the login are set again, as a pooler's login may have had others.
/// - Only errors are reported: notices that a trigger raises are not for us.
/// - `lock_timeout` is below `deadlock_timeout`: we give way before the application becomes the victim of a deadlock.
/// - Everything but our updates is read-only, as code in an index runs with our rights when a query is planned.
/// - `transaction_timeout`, of PostgreSQL 17, would end a census. Another quoting of names would name a part in two
///   ways.
/// - `row_security = off` fails loudly where a policy would hide rows.
/// - The planner has only one way to do what we ask: by place in the heap, in the heap's order. Other ways look cheaper
///   on small tables, and would read all of a large one.
/// - A database in SQL_ASCII holds any bytes; asked for UTF-8, it would fail a whole statement for one bad value.
const SETTINGS: &str = "\
    RESET SESSION AUTHORIZATION; RESET ALL; RESET ROLE; \
    SET search_path = pg_catalog, pg_temp; \
    SET application_name = 'rekey'; SET client_encoding = 'UTF8'; \
    SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'; SET extra_float_digits = 2; \
    SET client_min_messages = error; \
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET lock_timeout = '200ms'; \
    SET statement_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SELECT pg_catalog.set_config('transaction_timeout', '0', false) \
    WHERE pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 170000; \
    SET quote_all_identifiers = off; \
    SET row_security = off; \
    SET default_transaction_read_only = on; \
    SET standard_conforming_strings = on; \
    SET enable_seqscan = off; \
    SET enable_hashjoin = off; \
    SET enable_mergejoin = off; \
    SET synchronize_seqscans = off; \
    SET max_parallel_workers_per_gather = 0; \
    SET jit = off; \
    SET seq_page_cost = 1; SET random_page_cost = 4; SET cpu_tuple_cost = 0.01; \
    SET cpu_index_tuple_cost = 0.005; SET cpu_operator_cost = 0.0025; \
    SET bytea_output = hex; \
    SET constraint_exclusion = off; \
    SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
    WHERE pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII'";
/// Triggers, constraints and indexes on expressions are the application's code, and may rely on the login's search
/// path; our own statement names everything with its schema. The commit does not wait for the disk: whoever relies on
/// it flushes first, and a crash before that restores the old values.
const FOR_UPDATES: &str = "SET search_path TO DEFAULT; SET synchronous_commit = off; \
    SET default_transaction_read_only TO DEFAULT";

/// What is said before rows are read: only the heap itself knows all of them, and by their places. An index may lack
/// some, or look cheaper; to read the catalogue takes indexes.
const BY_PLACE: &str = "SET enable_tidscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; \
    SET enable_bitmapscan = off";

const FOR_COUNTING: &str = "SET statement_timeout = '10min'";

/// The connections of one source.
pub(super) struct Connections {
    options: PgConnectOptions,
    database: Arc<str>,
    pool: PgPool,
    here: Arc<Here>,
}

/// Which database the name leads to. One is renamed, and another gets its name, while a process has it open; a session
/// that was made before stays where it is.
#[derive(Default)]
struct Here {
    /// What it was known by when it was opened.
    known: OnceLock<String>,
    /// A later session was in another one.
    is_another: AtomicBool,
}

impl Here {
    /// Looks where a new session is.
    async fn look(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let found = identity::of_session(connection).await?;
        if *self.known.get_or_init(|| found.clone()) != found {
            self.is_another.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Connections {
    pub(super) async fn open(url: &str, most: NonZeroU32) -> Result<Self, SourceError> {
        let bad = |_| SourceError::BadUrl {
            problem: "cannot be read",
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(bad)?
            .application_name("rekey")
            // A pooler refuses it at the start unless told otherwise.
            .extra_float_digits(None)
            .statement_cache_capacity(STATEMENTS_KEPT)
            .disable_statement_logging();
        let here = Arc::new(Here::default());
        let connections = Self {
            database: label(&options).into(),
            pool: pool(&options, most, &here),
            options,
            here,
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
            acquired => {
                let acquired = acquired.map_err(|error| self.not_connected(&error))?;
                self.refuse_another().map(|()| acquired)
            }
        }
    }

    /// Whether the name leads to another database than when this was opened.
    pub(super) fn is_another(&self) -> bool {
        self.here.is_another.load(Ordering::Relaxed)
    }

    /// Whoever opens the source anew is told which it is.
    fn refuse_another(&self) -> Result<(), SourceError> {
        if !self.is_another() {
            return Ok(());
        }
        Err(SourceError::OutOfReach {
            database: self.database.to_string(),
            reason: "its name leads to another database than when this process opened it"
                .to_owned(),
        })
    }

    /// A session of its own, in which nothing was prepared and nobody else's code has run.
    pub(super) async fn fresh(&self) -> Result<PgConnection, SourceError> {
        self.connect().await
    }

    /// The pool says only that it waited in vain: a connection of its own says why.
    async fn reason(&self) -> SourceError {
        match self.connect().await {
            Err(error) => error,
            Ok(_) => SourceError::Busy {
                database: self.database.to_string(),
                waited_for: "a connection of ours".to_owned(),
                held_by: None,
            },
        }
    }

    fn not_connected(&self, error: &sqlx::Error) -> SourceError {
        faults::of_connection(error, &Place::database(&self.database))
    }

    async fn connect(&self) -> Result<PgConnection, SourceError> {
        // Not kept prepared: code that runs there could exchange a named statement for another.
        let options = self.options.clone().statement_cache_capacity(0);
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            restore(&mut connection).await?;
            self.here.look(&mut connection).await?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => {
                let connected = connected.map_err(|error| self.not_connected(&error))?;
                self.refuse_another().map(|()| connected)
            }
            Err(_) => Err(SourceError::OutOfReach {
                database: self.database.to_string(),
                reason: format!(
                    "no connection came about within {} s: it does not answer, or it or a pooler before it has none free",
                    CONNECT_TIMEOUT.as_secs()
                ),
            }),
        }
    }

    async fn refuse_shared(&self, connection: &mut PgConnection) -> Result<(), SourceError> {
        let mut other = self.connect().await?;
        let place = Place::database(&self.database);
        let shared = pooler::shares(connection, &mut other).await.at(&place)?;
        end(other).await;
        if !shared {
            return Ok(());
        }
        Err(SourceError::Pooled {
            database: self.database.to_string(),
        })
    }

    /// Connects once, so that what is wrong is found when the source is opened.
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.connect().await?;
        let place = Place::database(&self.database);
        self.refuse_shared(&mut connection).await?;
        let version =
            sqlx::query_scalar("SELECT pg_catalog.current_setting('server_version_num')::int4");
        let version: i32 = version.fetch_one(&mut connection).await.at(&place)?;
        end(connection).await;
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

/// Ends a session that is not the pool's. What it was for is done; how it ends is of no interest.
pub(super) async fn end(connection: PgConnection) {
    let _ = connection.close().await;
}

/// Gives a session back to the pool, and frees its buffers after so many bytes of values. A session in which trusted
/// code of a table's owner ran is ended instead: its prepared statements may be exchanged, and the next table may have
/// another owner.
pub(super) async fn give_back(
    mut connection: PoolConnection<Postgres>,
    ran_code: bool,
    bytes: usize,
) {
    if ran_code {
        let _ = connection.close().await;
        return;
    }
    if bytes > ROOM_KEPT {
        connection.shrink_buffers();
    }
}

fn label(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    format!("PostgreSQL {database} at {host}:{port}")
}

/// Makes a session what it has to be, in one round trip, which also shows that it is alive.
async fn restore(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SETTINGS).execute(connection).await.map(drop)
}

/// The same before each statement of a count. Code of a table's owner runs not only in triggers: planning a query calls
/// what an index contains, which may change the session for the next query. The statement may take as long as reading
/// wide values takes.
pub(super) async fn steady(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let sql = format!("{SETTINGS}; {FOR_COUNTING}");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(drop).at(place)
}

/// The same before a statement that reads rows.
pub(super) async fn steady_by_place(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let sql = format!("{SETTINGS}; {FOR_COUNTING}; {BY_PLACE}");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(drop).at(place)
}

/// Has rows read by their places, in a session that was taken just now.
pub(super) async fn by_place(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let done = sqlx::raw_sql(BY_PLACE).execute(connection).await;
    done.map(drop).at(place)
}

/// The same before an update, as the one before may have fired triggers.
pub(super) async fn prepare_update(connection: &mut PgConnection) -> sqlx::Result<()> {
    let sql = format!("{SETTINGS}; {FOR_UPDATES}");
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(drop)
}

fn pool(options: &PgConnectOptions, most: NonZeroU32, here: &Arc<Here>) -> PgPool {
    let here = here.clone();
    PgPoolOptions::new()
        .max_connections(most.get())
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .after_connect(move |connection, _| {
            let here = here.clone();
            Box::pin(async move {
                restore(connection).await?;
                here.look(connection).await
            })
        })
        .before_acquire(|connection, _| {
            Box::pin(async move {
                restore(connection).await?;
                Ok(true)
            })
        })
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}

#[cfg(test)]
mod tests {
    use rekey_testkit::{PoolMode, Pooler, TestDatabase};

    use super::*;

    /// Settings that a trigger may leave in a session of ours, and what each is when the session is taken again.
    const LEFT_BEHIND: [(&str, &str, &str); 19] = [
        ("search_path", "evil, public", "pg_catalog, pg_temp"),
        ("client_min_messages", "debug1", "error"),
        ("lock_timeout", "0", "200ms"),
        ("statement_timeout", "0", "30s"),
        ("idle_in_transaction_session_timeout", "0", "1min"),
        ("row_security", "on", "off"),
        ("quote_all_identifiers", "on", "off"),
        ("standard_conforming_strings", "off", "on"),
        (
            "default_transaction_isolation",
            "serializable",
            "read committed",
        ),
        ("default_transaction_read_only", "off", "on"),
        ("session_replication_role", "replica", "origin"),
        ("synchronous_commit", "off", "on"),
        ("enable_seqscan", "on", "off"),
        ("role", "pg_monitor", "none"),
        ("TimeZone", "Asia/Tokyo", "UTC"),
        ("DateStyle", "German, DMY", "ISO, MDY"),
        ("application_name", "clinic", "rekey"),
        ("client_encoding", "LATIN1", "UTF8"),
        ("extra_float_digits", "-1", "2"),
    ];

    #[tokio::test]
    async fn a_session_is_the_same_each_time_it_is_taken_and_keeps_its_statements() {
        let database = TestDatabase::create().await;
        // Where the login is the pooler's.
        let altered = format!(
            "ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo'; \
             ALTER DATABASE {name} SET DateStyle = 'German, DMY'",
            name = database.name()
        );
        let altered = sqlx::raw_sql(AssertSqlSafe(altered));
        altered.execute(&database.pool().await).await.unwrap();
        let pooler = Pooler::before(&database.url(), PoolMode::Session, 4).unwrap();
        for url in [&database.url(), pooler.url()] {
            is_the_same_each_time(url).await;
        }
    }

    async fn is_the_same_each_time(url: &str) {
        let connections = Connections::open(url, crate::USUAL_CONNECTIONS)
            .await
            .unwrap();
        let mut connection = connections.acquire().await.unwrap();
        let pid = async |of: &mut PgConnection| -> i32 {
            let pid = sqlx::query_scalar("SELECT pg_catalog.pg_backend_pid()");
            pid.fetch_one(of).await.unwrap()
        };
        let session = pid(&mut connection).await;
        for (name, value, _) in LEFT_BEHIND {
            let set = sqlx::query("SELECT pg_catalog.set_config($1, $2, false)");
            let set = set.bind(name).bind(value).persistent(false);
            set.execute(&mut *connection).await.unwrap();
        }
        connection.return_to_pool().await;
        let mut again = connections.acquire().await.unwrap();
        for (name, _, value) in LEFT_BEHIND {
            let now = sqlx::query_scalar("SELECT pg_catalog.current_setting($1)").bind(name);
            let now: String = now.fetch_one(&mut *again).await.unwrap();
            assert_eq!(now, value, "{name}");
        }
        assert_eq!(pid(&mut again).await, session);
        let kept = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements \
                    WHERE statement LIKE '%pg_backend_pid%' AND generic_plans + custom_plans > 1";
        let kept: i64 = sqlx::query_scalar(kept)
            .fetch_one(&mut *again)
            .await
            .unwrap();
        assert_eq!(kept, 1);
    }
}
