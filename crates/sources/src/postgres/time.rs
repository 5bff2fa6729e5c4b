//! The source's own time: deadlines are set and checked by PostgreSQL's clock, not by ours.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::faults::Located;
use crate::{Deadline, SourceError, place::Place};

/// PostgreSQL's time plus `within`.
pub(super) async fn deadline(
    connection: &mut PgConnection,
    within: Duration,
    place: &Place,
) -> Result<Deadline, SourceError> {
    let now = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8");
    let now: i64 = now.fetch_one(connection).await.at(place)?;
    let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
    Ok(Deadline::from_unix_millis(now.saturating_add(within)))
}

/// The condition of a statement that may only change rows before a deadline.
pub(super) fn before(deadline: Deadline) -> String {
    let millis = deadline.unix_millis();
    format!("extract(epoch FROM clock_timestamp()) * 1000 < {millis}")
}

/// # Errors
/// [`SourceError::DeadlinePassed`] if it has.
pub(super) async fn check(
    connection: &mut PgConnection,
    deadline: Deadline,
    place: &Place,
) -> Result<(), SourceError> {
    let sql = format!("SELECT {}", before(deadline));
    let before = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
    if before.await.at(place)? {
        return Ok(());
    }
    Err(SourceError::DeadlinePassed {
        relation: place.relation.clone(),
    })
}
