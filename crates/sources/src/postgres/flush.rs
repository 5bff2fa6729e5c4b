//! Flushing: commits that nobody waited for are written to the disk, so that what was read outlives a crash.

use sqlx::PgConnection;

use super::faults::{self, Located};
use crate::{SourceError, place::Place};

/// A commit waits for the WAL before it, and so for every commit that was visible before, but only if its transaction
/// wrote something itself; an empty message is enough. `synchronous_commit` is set here in case the database turns it
/// off.
const FLUSH: &str = "\
    RESET synchronous_commit; \
    SELECT pg_catalog.set_config('synchronous_commit', 'local', true) \
        WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'; \
    SELECT pg_catalog.pg_logical_emit_message(true, 'rekey'::pg_catalog.text, ''::pg_catalog.text)";

/// Waits until every commit that anyone on this session saw is on the disk.
pub(super) async fn flush(connection: &mut PgConnection, place: &Place) -> Result<(), SourceError> {
    match sqlx::raw_sql(FLUSH).execute(connection).await {
        Err(error) if faults::is_forbidden(&error) => Err(SourceError::NotAllowed {
            database: place.database.to_string(),
            relation: place.relation.clone(),
            what: "make sure of what was read of",
            remedy: "our role needs EXECUTE on pg_catalog.pg_logical_emit_message, as everyone has by default".to_owned(),
        }),
        flushed => flushed.map(drop).at(place),
    }
}
