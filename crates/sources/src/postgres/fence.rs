//! Transactions that may still commit what no snapshot shows: none that was open at a mark may be left when values are counted.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::faults::Located;
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
            let who = who(connection, fence, place).await?;
            Err(SourceError::OpenTransactions { database, who })
        }
    }
}

/// Every transaction with an id holds a lock on it, which everyone may see; whose it is, is for some.
const OPEN: &str = "SELECT l.pid, p.gid, coalesce(a.usename, p.owner)::pg_catalog.text, \
        a.application_name, coalesce(a.datname, p.database)::pg_catalog.text, \
        pg_catalog.to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') \
    FROM pg_catalog.pg_locks l \
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid \
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted \
        AND pg_catalog.age(l.transactionid) \
            > pg_catalog.age((($1::pg_catalog.text::pg_catalog.numeric) % 4294967296)::pg_catalog.text::pg_catalog.xid) \
    ORDER BY pg_catalog.age(l.transactionid) DESC LIMIT $2";

async fn who(
    connection: &mut PgConnection,
    fence: &str,
    place: &Place,
) -> Result<String, SourceError> {
    let rows = sqlx::query(OPEN).bind(fence).bind(NAMED);
    let rows = rows.fetch_all(connection).await.at(place)?;
    let named: Result<Vec<_>, sqlx::Error> = rows.iter().map(name).collect();
    let named = named.at(place)?.join("; ");
    Ok(if named.is_empty() {
        "they have just ended".to_owned()
    } else {
        named
    })
}

fn name(row: &PgRow) -> Result<String, sqlx::Error> {
    let text = |at: usize| row.try_get::<Option<String>, _>(at);
    let (pid, gid) = (row.try_get::<Option<i32>, _>(0)?, text(1)?);
    let mut name = match (pid, gid) {
        (Some(pid), _) => format!("process {pid}"),
        (None, Some(gid)) => format!("prepared transaction {gid:?}"),
        (None, None) => "a prepared transaction".to_owned(),
    };
    let about = [
        ("of", text(2)?),
        ("by", text(3)?),
        ("in", text(4)?),
        ("since", text(5)?),
    ];
    for (word, what) in about {
        if let Some(what) = what.filter(|what| !what.is_empty()) {
            name.push_str(&format!(" {word} {what:?}"));
        }
    }
    Ok(name)
}
