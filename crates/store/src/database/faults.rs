//! What an error of the store's database means, in our words.
//!
//! Its own are not passed on: a trigger's `RAISE`, a constraint's name or a pooler in between would write
//! in our logs.

use std::io::ErrorKind;

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr, SqlxError, SqlxSqliteError, sqlx::error::DatabaseError,
};

const NOT_SECURE: &str = "no secure connection came about: the server's certificate is not trusted, or it \
    speaks no TLS; check sslmode and sslrootcert";

/// As long as `connect` waits.
const NOT_FREE: &str = "no connection was free in time (10 s, 30 s on SQLite): it has none left, or a pooler before it, which needs store.connections of them for each process; or it is a standby by now, which is refused";

/// Why a standby is refused.
pub(crate) const STANDBY: &str =
    "it is a standby, which may lag behind; say the URL of its primary, store.url";

/// The store's tables. Of the text of a refusal only such a name is shown.
const TABLES: [&str; 37] = [
    "alert",
    "audit_detail",
    "audit_entry",
    "audit_head",
    "backup",
    "backup_request",
    "batch",
    "census",
    "channel",
    "checkpoint",
    "dead_letter",
    "delivery",
    "deployment",
    "deployment_backup",
    "destination",
    "drill",
    "heartbeat",
    "inbox",
    "incident",
    "key",
    "keyring",
    "lease",
    "met",
    "outbox",
    "pace",
    "protected_column",
    "quarantine",
    "recovery_key",
    "reopened",
    "reported_master_key",
    "rotation",
    "rotation_request",
    "schedule",
    "seaql_migrations",
    "source",
    "source_table",
    "straggler_look",
];

/// The driver's error in one of SeaORM's.
pub(crate) fn driver_error(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(driver))
        | DbErr::Exec(RuntimeErr::SqlxError(driver))
        | DbErr::Query(RuntimeErr::SqlxError(driver)) => Some(driver),
        _ => None,
    }
}

/// Whether a connection was waited for in vain.
pub(crate) fn is_time_out(error: &DbErr) -> bool {
    matches!(driver_error(error), Some(SqlxError::PoolTimedOut))
        || matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
}

/// What the error means. Texts by SeaORM or by us stay as they are.
pub(crate) fn meaning(error: &DbErr) -> String {
    match (driver_error(error), error) {
        (Some(driver), _) => of_driver(driver),
        (None, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => NOT_FREE.to_owned(),
        (None, _) => error.to_string(),
    }
}

/// What an error of the driver means.
pub(crate) fn of_driver(error: &SqlxError) -> String {
    let meaning = match error {
        SqlxError::Database(said) => return of_database(&**said),
        // A certificate that is not trusted comes as an error of the connection.
        SqlxError::Io(error) if error.kind() == ErrorKind::InvalidData => NOT_SECURE,
        SqlxError::Io(error) => return rekey_domain::io_words(error),
        SqlxError::Tls(_) => NOT_SECURE,
        SqlxError::PoolTimedOut => NOT_FREE,
        SqlxError::Protocol(said) if said == STANDBY => STANDBY,
        SqlxError::Configuration(_) | SqlxError::InvalidArgument(_) => {
            "its URL asks for what cannot be; check its parameters, and the files that they name"
        }
        SqlxError::ColumnNotFound(_)
        | SqlxError::ColumnDecode { .. }
        | SqlxError::ColumnIndexOutOfBounds { .. }
        | SqlxError::Decode(_) => "an answer is not of the form that this program knows",
        _ => "the connection ended",
    };
    meaning.to_owned()
}

/// Which right is missing, with the table if it is one of ours.
pub(crate) fn denied(said: &dyn DatabaseError) -> String {
    let mut words = said.message().split_whitespace();
    match words.find_map(|word| TABLES.iter().find(|table| **table == word)) {
        Some(table) => format!("our role lacks a right on table {table}"),
        None => "our role lacks a right".to_owned(),
    }
}

fn of_database(said: &dyn DatabaseError) -> String {
    let code = said.code().unwrap_or_default();
    if said.try_downcast_ref::<SqlxSqliteError>().is_some() {
        return format!("{} (SQLite code {code})", of_sqlite(&code));
    }
    // Whatever answers there may not be PostgreSQL.
    if code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return format!("{} (SQLSTATE {code})", of_postgres(&code));
    }
    "it answers what no PostgreSQL does".to_owned()
}

fn of_sqlite(code: &str) -> &'static str {
    match code.parse::<i32>().unwrap_or_default() & 0xff {
        5 | 6 => "a lock was not free in time",
        8 => "its file may not be written",
        10 => "its disk failed to read or write",
        11 => "its file is damaged; restore it from a copy",
        14 => "its file cannot be opened",
        19 => "a constraint refused it",
        26 => "its file is no SQLite database",
        _ => "a statement failed",
    }
}

fn of_postgres(code: &str) -> &'static str {
    match code {
        "28000" | "28P01" => {
            "the login was refused; check user and password in the URL, and pg_hba.conf"
        }
        "3D000" => "there is no such database; check its name in the URL",
        "42501" => "our role lacks a right",
        "42P01" | "42703" | "3F000" => "a table, a column or the schema is missing",
        "25006" => "it takes no writes: a standby, or read-only",
        "55P03" => "a lock was not free in time",
        "40001" | "40P01" => "it gave way to another transaction",
        "57014" => "a statement took too long",
        "53300" => "no connection slot of the server is free",
        "57P01" => "the connection was terminated",
        "57P03" => "the server is starting up or shutting down",
        "25P03" => "the transaction was idle for too long",
        "26000" | "42P05" => {
            "what was prepared is another session's: a pooler before it shares them; have it give each client a session of its own (pool_mode = session), or connect past it"
        }
        _ => match &code[..2] {
            "08" | "57" => "the connection failed",
            "23" => "a constraint refused it",
            "53" => "the server has no resources left",
            "XX" | "58" => "the database is damaged; check the server's log and its disk",
            _ => "a statement failed",
        },
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, Statement};

    use super::*;
    use crate::{
        StoreError,
        database::test_store::{Kind, TestStore},
        keys::keyrings,
    };

    const CANARY: &str = "Ana Ruiz\nERROR forged";

    #[tokio::test]
    async fn no_words_of_a_database_are_passed_on() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let name = CANARY.replace('\n', "' || chr(10) || '");
            for sql in match kind {
                Kind::Postgres => vec![
                    format!("DO $$ BEGIN RAISE EXCEPTION '%', '{name}'; END $$"),
                    format!(
                        "DO $$ BEGIN RAISE EXCEPTION '%', '{name}' USING ERRCODE = '40001'; END $$"
                    ),
                    format!(
                        "DO $$ BEGIN RAISE EXCEPTION '%', '{name}' USING ERRCODE = '42501'; END $$"
                    ),
                    format!("SELECT '{name}'::int4"),
                ],
                Kind::Sqlite => vec![
                    format!("SELECT json_extract('{{}}', '{CANARY}')"),
                    format!("SELECT keyring.\"{CANARY}\" FROM keyring"),
                ],
            } {
                let error = store.db().execute_unprepared(&sql).await.unwrap_err();
                let error: StoreError = error.into();
                let mut shown = format!("{error} {error:?}");
                let mut cause: &dyn std::error::Error = &error;
                while let Some(next) = cause.source() {
                    shown += &format!("{next} {next:?}");
                    cause = next;
                }
                assert!(
                    !shown.contains("Ruiz") && !shown.contains("forged"),
                    "{shown}"
                );
            }
        }
    }

    #[tokio::test]
    async fn every_table_of_the_store_is_known_by_name() {
        let store = TestStore::new(Kind::Sqlite).await;
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' \
                      AND name NOT LIKE 'sqlite%' ORDER BY name";
        let tables = Statement::from_string(store.db().get_database_backend(), tables);
        let tables = store.db().query_all_raw(tables).await.unwrap();
        let tables = tables.iter().map(|row| row.try_get("", "name").unwrap());
        assert_eq!(tables.collect::<Vec<String>>(), TABLES);
    }

    #[tokio::test]
    async fn a_trigger_of_the_stores_owner_tells_our_logs_nothing() {
        let store = TestStore::new(Kind::Postgres).await;
        let sql = "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS \
                   $$ BEGIN RAISE EXCEPTION 'Ana Ruiz'; END $$; \
                   CREATE TRIGGER loud BEFORE INSERT ON deployment EXECUTE FUNCTION loud()";
        store.db().execute_unprepared(sql).await.unwrap();
        let error = keyrings::ensure_deployment(&store.unit().await).await;
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("Ruiz"), "{error}");
        assert!(error.to_string().contains("P0001"), "{error}");
    }
}
