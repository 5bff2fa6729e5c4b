//! How each kind of database is connected to.

use std::{str::FromStr, time::Duration};

use rekey_domain::{may_show_password, sqlite_parameter_problem};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{
        self, Connection, PgConnection, SqliteConnection,
        postgres::PgConnectOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

use crate::{
    StoreError,
    database::{
        faults,
        place::{is_postgres, place},
        pooler,
    },
};

const SQLITE_CONNECTIONS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 10;
/// How long a connection is waited for.
const SQLITE_PATIENCE: Duration = Duration::from_secs(30);
const POSTGRES_PATIENCE: Duration = Duration::from_secs(10);
/// How long to look afterwards for the reason why there was none.
const LOOK_WHY: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is tried before it is used; asking each time costs a round trip.
const TRY_AFTER_IDLE: Duration = Duration::from_secs(1);

/// The settings of each session, made once at its start: no code of others runs in the store that could change them,
/// and ours changes settings only within a transaction. They are no start parameters, as poolers refuse those.
///
/// - The search path keeps only its first schema, where the store is. PostgreSQL's own schema comes before it by
///   itself, and temporary tables come last. So no name of ours is found where others may create, and
///   [`Store::check_schema`](crate::Store::check_schema) checks that they may not create in the store's schema.
/// - Only errors are reported.
/// - A unit takes milliseconds. One that waits for longer gives up and is tried again; if its process was stopped
///   midway, its rows are released.
const POSTGRES_SESSION: &str = "\
    SELECT pg_catalog.set_config('search_path', pg_catalog.concat(coalesce( \
        pg_catalog.quote_ident(pg_catalog.current_schema()), 'pg_catalog'), ', pg_temp'), false); \
    SET client_min_messages = error; \
    SET default_transaction_isolation = 'read committed'; \
    SET lock_timeout = '10s'; \
    SET statement_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '15s'";

/// Connects to the database of this URL, whatever its kind.
pub(crate) async fn connect(
    url: &str,
    connections: Option<u32>,
) -> Result<DatabaseConnection, StoreError> {
    let options = if may_show_password(url) {
        return Err(StoreError::Url);
    } else if is_postgres(url) {
        postgres(url, connections.unwrap_or(POSTGRES_CONNECTIONS))?
    } else if url.starts_with("sqlite:") {
        sqlite(url)?
    } else {
        return Err(StoreError::Url);
    };
    let out_of_reach = |reason: String| StoreError::OutOfReach(format!("{}: {reason}", place(url)));
    let connected = Database::connect(options).await;
    let db = match connected {
        Ok(db) => db,
        Err(error) => return Err(out_of_reach(reason(url, &error).await)),
    };
    if is_postgres(url) {
        let shared = pooler::shares(db.get_postgres_connection_pool()).await;
        if shared.map_err(|error| out_of_reach(faults::of_driver(&error)))? {
            return Err(StoreError::Pooled { place: place(url) });
        }
    }
    Ok(db)
}

/// The pool says only that it waited in vain: a session of its own says why.
async fn reason(url: &str, error: &DbErr) -> String {
    let options = is_postgres(url).then(|| PgConnectOptions::from_str(url));
    if let (true, Some(Ok(options))) = (faults::is_time_out(error), options) {
        let options = options.extra_float_digits(None);
        let connecting = PgConnection::connect_with(&options);
        let looked = async {
            let mut session = connecting.await?;
            is_standby(&mut session).await
        };
        match tokio::time::timeout(LOOK_WHY, looked).await {
            Ok(Err(why)) => return faults::of_driver(&why),
            Ok(Ok(true)) => return faults::STANDBY.to_owned(),
            _ => {}
        }
    }
    faults::meaning(error)
}

/// Whether the server follows another. It may lag behind without end: leases that it gave, and keys that it showed as
/// primary, would be those of long ago.
async fn is_standby(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT pg_catalog.pg_is_in_recovery()").persistent(false);
    asked.fetch_one(session).await
}

fn postgres(url: &str, connections: u32) -> Result<ConnectOptions, StoreError> {
    PgConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    let url = url.replacen("postgresql://", "postgres://", 1);
    let mut options = common(&url, connections, POSTGRES_PATIENCE);
    options.test_before_acquire_if_idle_for(TRY_AFTER_IDLE);
    options.map_sqlx_postgres_opts(|session| {
        // A pooler refuses it at the start unless told otherwise, and no fraction is read as text.
        let session = session.extra_float_digits(None);
        match session.get_application_name() {
            Some(_) => session,
            None => session.application_name("rekey"),
        }
    });
    options.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move {
                let set = sqlx::raw_sql(POSTGRES_SESSION).execute(&mut *connection);
                set.await?;
                match is_standby(connection).await? {
                    false => Ok(()),
                    true => Err(sqlx::Error::Protocol(faults::STANDBY.to_owned())),
                }
            })
        })
    });
    Ok(options)
}

/// How a SQLite database is opened: as it is there, or made.
const SQLITE_MODES: [&str; 2] = ["rw", "rwc"];

fn sqlite(url: &str) -> Result<ConnectOptions, StoreError> {
    if let Some(problem) = sqlite_parameter_problem(url, &SQLITE_MODES) {
        return Err(StoreError::UrlSays(problem));
    }
    // SQLite would read parameters out of such a name.
    let named = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    if named
        .get_filename()
        .as_os_str()
        .as_encoded_bytes()
        .starts_with(b"file:")
    {
        return Err(StoreError::UrlSays(
            "names a file by another URL; expected its path",
        ));
    }
    let mut options = common(url, SQLITE_CONNECTIONS, SQLITE_PATIENCE);
    options.map_sqlx_sqlite_opts(|sqlite: SqliteConnectOptions| {
        sqlite
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(20))
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(is_out_of_transaction(connection)))
    });
    Ok(options)
}

/// Whether a connection that was given back may be used again. SQLite rolls a transaction back by
/// itself when its commit meets a full disk; sqlx then counts on in a transaction that is none, and
/// its next one would end in a savepoint and hold the write lock for ever.
async fn is_out_of_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn common(url: &str, connections: u32, patience: Duration) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .sqlx_logging(false)
        .acquire_timeout(patience);
    options
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Algorithm, KeyringPolicy, Purpose};
    use rekey_testkit::{PoolMode, Pooler, PrivatePostgres, TestDatabase, tls::Authority};
    use sea_orm::{ConnectionTrait, Statement};

    use std::time::Instant;

    use super::*;
    use crate::{Store, keys::keyrings};

    /// It may lag without end, and would give leases under keys that were replaced long ago.
    #[tokio::test]
    async fn a_standby_is_refused_by_name_also_where_the_primary_becomes_one() {
        let mut server = PrivatePostgres::start().unwrap();
        let store = Store::connect(&server.url()).await.unwrap();
        store.now().await.unwrap();
        server.become_standby().unwrap();
        let refused = Store::connect(&server.url()).await.err().unwrap();
        assert!(refused.to_string().contains("it is a standby"), "{refused}");
        let refused = store.now().await.unwrap_err();
        assert!(refused.to_string().contains("a standby"), "{refused}");
    }

    #[tokio::test]
    async fn a_file_is_opened_with_its_wal_and_locks_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        let url = |parameters: &str| format!("sqlite://{}{parameters}", file.display());
        Store::connect(&url("?mode=rwc")).await.unwrap();
        for refused in [
            url("?mode=rw&immutable=1"),
            url("?vfs=unix-none"),
            url("?nolock=1"),
            url("?mode=ro"),
            format!("sqlite:file:{}%3Fimmutable=1", file.display()),
        ] {
            let error = Store::connect(&refused).await.unwrap_err();
            assert!(matches!(error, StoreError::UrlSays(_)), "{error}");
        }
        Store::connect(&url("")).await.unwrap();
    }

    async fn setting(store: &Store, name: &str) -> String {
        let show = format!("SELECT current_setting('{name}') AS value");
        let show = Statement::from_string(store.db().get_database_backend(), show);
        let row = store.db().query_one_raw(show).await.unwrap().unwrap();
        row.try_get("", "value").unwrap()
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_read_is_refused_and_not_shown() {
        for url in [
            "mysql://u:secret@db/x",
            "postgres://u:secret@db:port/x",
            "postgres://u:12/secret@db/x",
            "postgres:u:secret@db/x",
            "secret",
        ] {
            let error = Store::connect(url).await.unwrap_err();
            assert!(matches!(error, StoreError::Url), "{error}");
            assert!(!error.is_retryable());
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_session_on_postgresql_ends_what_waits_too_long() {
        let database = TestDatabase::create().await;
        let store = Store::connect(&database.url()).await.unwrap();
        for (name, value) in [
            ("lock_timeout", "10s"),
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "15s"),
            ("default_transaction_isolation", "read committed"),
            ("application_name", "rekey"),
            ("search_path", "public, pg_temp"),
            ("client_min_messages", "error"),
        ] {
            assert_eq!(setting(&store, name).await, value, "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pooler_whose_clients_share_connections_is_refused_with_the_cure() {
        let database = TestDatabase::create().await;
        for mode in [PoolMode::Transaction, PoolMode::Statement] {
            for connections in [1, 2, 20] {
                let pooler = Pooler::before(&database.url(), mode, connections).unwrap();
                // Again, when it has idle connections.
                for _ in 0..3 {
                    let error = Store::connect(pooler.url()).await.unwrap_err();
                    let text = error.to_string();
                    assert!(
                        matches!(error, StoreError::Pooled { .. }),
                        "{mode:?}: {text}"
                    );
                    assert!(text.contains("pool_mode = session"), "{text}");
                    assert!(text.contains("at 127.0.0.1:"), "{text}");
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pooler_in_session_mode_serves_with_its_defaults() {
        let database = TestDatabase::create().await;
        let pooler = Pooler::before(&database.url(), PoolMode::Session, 4).unwrap();
        for _ in 0..3 {
            let store = Store::connect(pooler.url()).await.unwrap();
            store.migrate().await.unwrap();
            store.check_schema().await.unwrap();
            assert_eq!(setting(&store, "lock_timeout").await, "10s");
            store.db().close_by_ref().await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_for_a_connection_in_vain_is_told_so_in_time_and_where() {
        let database = TestDatabase::create().await;
        let pooler = Pooler::before(&database.url(), PoolMode::Session, 1).unwrap();
        let began = Instant::now();
        let error = Store::connect(pooler.url()).await.unwrap_err();
        assert!(
            began.elapsed() < Duration::from_secs(14),
            "{:?}",
            began.elapsed()
        );
        let text = error.to_string();
        assert!(error.is_retryable(), "{text}");
        assert!(
            text.contains(database.name()) && text.contains("at 127.0.0.1:"),
            "{text}"
        );
        assert!(
            text.contains("no connection was free in time (10 s") && !text.contains(":postgres@"),
            "{text}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_is_trusted_by_the_authority_that_the_url_names_and_by_no_other() {
        let (authority, other) = (Authority::new(), Authority::new());
        let server = PrivatePostgres::start().unwrap();
        server.secure(&authority.vouch_for("localhost")).unwrap();
        let url = server.url().replace("127.0.0.1", "localhost");
        let trusting = |authority: &Authority| {
            let file = authority.file().display();
            format!("{url}?sslmode=verify-full&sslrootcert={file}")
        };
        let trusted = trusting(&authority);
        let by_another_name = trusted.replace("localhost", "127.0.0.1");
        for refused in [trusting(&other), by_another_name] {
            let error = Store::connect(&refused).await.unwrap_err();
            assert!(matches!(error, StoreError::OutOfReach(_)), "{error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
        let store = Store::connect(&trusted).await.unwrap();
        store.migrate().await.unwrap();
        let secure = "SELECT ssl AS value FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let secure = Statement::from_string(store.db().get_database_backend(), secure);
        let row = store.db().query_one_raw(secure).await.unwrap().unwrap();
        assert!(row.try_get::<bool>("", "value").unwrap());
    }

    #[tokio::test]
    async fn a_store_may_live_in_a_schema_of_its_own() {
        let database = TestDatabase::create().await;
        let elsewhere = Store::connect(&database.url()).await.unwrap();
        let create = "CREATE SCHEMA rekey";
        elsewhere.db().execute_unprepared(create).await.unwrap();
        let url = format!("{}?options=-c%20search_path%3Drekey", database.url());
        let store = Store::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        store.check_schema().await.unwrap();
        assert!(elsewhere.check_schema().await.is_err());
        elsewhere.migrate().await.unwrap();
        elsewhere.check_schema().await.unwrap();
    }

    /// The neighbour may create in a schema that the login's path has beside the store's own.
    #[tokio::test]
    async fn no_name_of_the_stores_is_found_where_a_neighbour_may_create() {
        let database = TestDatabase::create().await;
        let neighbour = Store::connect(&database.url()).await.unwrap();
        // An operator that fits better than PostgreSQL's own where the database's time is asked for.
        let lure = "CREATE SCHEMA rekey; CREATE TABLE caught (who name); \
            CREATE FUNCTION never(numeric, int) RETURNS numeric LANGUAGE plpgsql AS \
            $$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN 0; END $$; \
            CREATE OPERATOR * (LEFTARG = numeric, RIGHTARG = int, FUNCTION = never)";
        neighbour.db().execute_unprepared(lure).await.unwrap();
        let url = format!("{}?options=-csearch_path%3Drekey,public", database.url());
        let store = Store::connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        store.check_schema().await.unwrap();
        let unit = store.begin().await.unwrap();
        let (name, policy) = ("phi".parse().unwrap(), KeyringPolicy::default());
        let made = keyrings::create(&unit, &name, Purpose::Phi, Algorithm::default(), &policy);
        made.await.unwrap();
        unit.commit().await.unwrap();
        let found = keyrings::find(store.db(), &name).await.unwrap();
        assert!(found.is_some());
        let caught = "SELECT count(*) AS value FROM caught";
        let caught = Statement::from_string(neighbour.db().get_database_backend(), caught);
        let caught = neighbour.db().query_one_raw(caught).await.unwrap().unwrap();
        assert_eq!(caught.try_get::<i64>("", "value").unwrap(), 0);
    }
}
