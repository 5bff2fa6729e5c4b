//! How a PostgreSQL server is, as far as limits ask for it: its standbys, and a table's dead tuples.

use std::time::Duration;

use rekey_domain::{Limits, Load};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{catalogue::Table, faults::Located, parts::TREE};
use crate::{SourceError, place::Place};

/// Without this right every standby's lag reads as if it had none.
const MAY_SEE_LAG: &str =
    "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";
/// A standby that has all it was sent keeps the last lag that was measured for a while.
const LAG: &str = "SELECT (extract(epoch FROM pg_catalog.max(replay_lag)) * 1000)::int8 \
     FROM pg_catalog.pg_stat_replication \
     WHERE replay_lsn IS DISTINCT FROM sent_lsn OR state <> 'streaming'";
/// Statistics, which everyone may read; a table that was never written to has none.
const DEAD: &str =
    "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(oid)), 0)::int8 FROM tree";

/// What `limits` ask for, of the server and of the table with its partitions.
pub(super) async fn find(
    connection: &mut PgConnection,
    place: Place,
    limits: &Limits,
) -> Result<Load, SourceError> {
    let mut load = Load::default();
    if limits.max_replica_lag.is_some() {
        load.replica_lag = replica_lag(connection, &place).await?;
    }
    if limits.max_dead_tuples.is_some() {
        let table = Table::find(connection, place).await?;
        load.dead_tuples = Some(dead_tuples(connection, &table).await?);
    }
    Ok(load)
}

/// Of the slowest standby; None where each has all there is, or there is none.
async fn replica_lag(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Option<Duration>, SourceError> {
    let may: bool = sqlx::query_scalar(MAY_SEE_LAG)
        .fetch_one(&mut *connection)
        .await
        .at(place)?;
    if !may {
        return Err(SourceError::NotAllowed {
            database: place.database.to_string(),
            relation: "pg_stat_replication".to_owned(),
            what: "see the lag of standbys in",
            remedy: "GRANT pg_read_all_stats to the source's role, or leave out max_replica_lag"
                .to_owned(),
        });
    }
    let lag: Option<i64> = sqlx::query_scalar(LAG)
        .fetch_one(connection)
        .await
        .at(place)?;
    Ok(lag.map(|millis| Duration::from_millis(millis.unsigned_abs())))
}

async fn dead_tuples(connection: &mut PgConnection, table: &Table) -> Result<u64, SourceError> {
    let dead = sqlx::query_scalar(AssertSqlSafe(format!("{TREE} {DEAD}"))).bind(table.oid);
    let dead: i64 = dead.fetch_one(connection).await.at(&table.place)?;
    Ok(dead.unsigned_abs())
}
