//! The database's own clock, which every date that decides goes by (rule 9).

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::StoreError;

/// The database's time in milliseconds since 1970.
///
/// # Errors
/// [`StoreError::OutOfReach`] when the database does not answer.
pub async fn database_time(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint AS now"
        }
        _ => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now",
    };
    let row = db
        .query_one_raw(Statement::from_string(backend, sql))
        .await?;
    let row = row.expect("a SELECT without FROM gives one row");
    Ok(row.try_get("", "now")?)
}

/// The same on PostgreSQL, and the transaction's commit will not wait for the disk.
pub(crate) async fn relaxed_database_time(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let sql = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint AS now, \
               pg_catalog.set_config('synchronous_commit', 'off', true) AS relaxed";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = db.query_one_raw(statement).await?;
    let row = row.expect("a SELECT without FROM gives one row");
    Ok(row.try_get("", "now")?)
}

/// A time of the database's, as it is stored and shown.
pub(crate) fn in_milliseconds(time: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time).expect("no database tells a time beyond the year 262,000")
}
