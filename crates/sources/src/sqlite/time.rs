//! The source's own time: deadlines are set and checked by SQLite's clock, not by ours.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::faults::Located;
use crate::{Deadline, SourceError, place::Place};

/// The condition of a statement that may only run before a deadline, which is bound to it.
pub(super) const BEFORE_DEADLINE: &str = "unixepoch('subsec') * 1000 < ?";

/// SQLite's time plus `within`.
pub(super) async fn deadline(
    connection: &mut SqliteConnection,
    within: Duration,
    place: &Place,
) -> Result<Deadline, SourceError> {
    let now = sqlx::query_scalar("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)");
    let now: i64 = now.fetch_one(connection).await.at(place)?;
    let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
    Ok(Deadline::from_unix_millis(now.saturating_add(within)))
}

/// # Errors
/// [`SourceError::DeadlinePassed`] if it has.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    deadline: Deadline,
    place: &Place,
) -> Result<(), SourceError> {
    let before = sqlx::query_scalar("SELECT unixepoch('subsec') * 1000 < ?")
        .bind(deadline.unix_millis())
        .fetch_one(connection);
    if before.await.at(place)? {
        return Ok(());
    }
    Err(SourceError::DeadlinePassed {
        relation: place.relation.clone(),
    })
}
