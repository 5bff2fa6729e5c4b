//! Transactions that may still commit what no snapshot shows: none that was open at a mark may be left when values are counted.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{faults::Located, who};
use crate::{SourceError, place::Place};

/// At most so many are named.
const NAMED: i64 = 5;

/// A transaction id of our own: whoever has one by now has a lower one. A snapshot's `xmax` would not
/// do, as transactions at or above it may be open: it is one more than the latest that ended.
pub(super) async fn take(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<String, SourceError> {
    let ours = sqlx::query_scalar("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text");
    ours.fetch_one(connection).await.at(place)
}

/// Sees that our snapshot shows whatever transactions below the mark wrote. Ids are of the whole
/// server: one in another database bars us too, as nobody can tell where it will write.
///
/// # Errors
/// [`SourceError::OpenTransactions`], [`SourceError::FenceLost`].
pub(super) async fn check(
    connection: &mut PgConnection,
    fence: &str,
    place: &Place,
) -> Result<(), SourceError> {
    let sql = "SELECT \
        pg_catalog.pg_snapshot_xmin(s) OPERATOR(pg_catalog.>=) $1::pg_catalog.text::pg_catalog.xid8, \
        pg_catalog.pg_snapshot_xmax(s) OPERATOR(pg_catalog.>=) $1::pg_catalog.text::pg_catalog.xid8 \
        FROM pg_catalog.pg_current_snapshot() AS s";
    let found = sqlx::query_as(sql).bind(fence).fetch_one(&mut *connection);
    let database = place.database.to_string();
    match found.await.at(place)? {
        (true, _) => Ok(()),
        (false, false) => Err(SourceError::FenceLost { database }),
        (false, true) => {
            let who = open(connection, fence, place).await?;
            Err(SourceError::OpenTransactions { database, who })
        }
    }
}

/// Every transaction with an id holds a lock on it, which everyone may see; whose it is, is for some.
const OPEN: &str = "FROM pg_catalog.pg_locks l \
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid \
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted \
        AND pg_catalog.age(l.transactionid) \
            > pg_catalog.age((($1::pg_catalog.text::pg_catalog.numeric) % 4294967296)::pg_catalog.text::pg_catalog.xid) \
    ORDER BY pg_catalog.age(l.transactionid) DESC LIMIT $2";

async fn open(
    connection: &mut PgConnection,
    fence: &str,
    place: &Place,
) -> Result<String, SourceError> {
    let sql = format!("SELECT {} {OPEN}", who::OF_A_LOCK);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(fence).bind(NAMED);
    let rows = rows.fetch_all(connection).await.at(place)?;
    let named: Result<Vec<_>, sqlx::Error> = rows.iter().map(who::name).collect();
    let named = named.at(place)?.join("; ");
    Ok(if named.is_empty() {
        "they have just ended".to_owned()
    } else {
        named
    })
}
