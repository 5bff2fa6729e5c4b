//! The source's own time: deadlines are set and checked by PostgreSQL's clock, not by ours.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::faults::Located;
use crate::{Deadline, SourceError, place::Place};

const NOW: &str = "SELECT \
    (extract(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8";

/// PostgreSQL's time plus `within`.
pub(super) async fn deadline(
    connection: &mut PgConnection,
    within: Duration,
    place: &Place,
) -> Result<Deadline, SourceError> {
    let now: i64 = sqlx::query_scalar(NOW)
        .fetch_one(connection)
        .await
        .at(place)?;
    let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
    Ok(Deadline::from_unix_millis(now.saturating_add(within)))
}

/// The condition of a statement that may only change rows before a deadline, which is bound as
/// [`seconds`] to this parameter: a statement whose text stays the same is planned once. Every name in it
/// is qualified, as the application's path holds where it stands.
pub(super) fn before(parameter: usize) -> String {
    format!(
        "pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) \
         pg_catalog.to_timestamp(${parameter}::pg_catalog.float8)"
    )
}

/// A deadline as `to_timestamp` takes it; exact to the microsecond for some centuries to come.
pub(super) fn seconds(deadline: Deadline) -> f64 {
    deadline.unix_millis() as f64 / 1_000.0
}

/// # Errors
/// [`SourceError::DeadlinePassed`] if it has.
pub(super) async fn check(
    connection: &mut PgConnection,
    deadline: Deadline,
    place: &Place,
) -> Result<(), SourceError> {
    let sql = format!("SELECT {}", before(1));
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(seconds(deadline));
    let before = query.fetch_one(connection);
    if before.await.at(place)? {
        return Ok(());
    }
    Err(SourceError::DeadlinePassed {
        relation: place.relation.clone(),
    })
}
