//! The fence: transactions that were open at a mark must have ended before values are counted, as no snapshot shows
//! what they may still commit.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{faults::Located, identity, who};
use crate::{SourceError, place::Place};

/// At most so many are named.
const NAMED: i64 = 5;

/// The mark: a transaction id of our own, above every id given so far. A snapshot's `xmax` would not do, as it is one
/// more than the latest id that ended, and transactions at or above it may be open.
///
/// A transaction gets its id with the first row that it writes: in `COPY` a thousand rows late, in an `INSERT` that
/// waits for a lock once that is free. By then it has asked for its lock on the table. So transactions without an id
/// that hold or await such a lock are noted too, by the number that each has from its start.
pub(super) async fn take(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<String, SourceError> {
    // In this order: whoever gets an id between the two has a lower one than ours.
    let begun = sqlx::query_scalar(BEGUN).fetch_all(&mut *connection);
    let begun: Vec<String> = begun.await.at(place)?;
    let instance = identity::of_instance(connection, place).await?;
    let ours = sqlx::query_scalar("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text");
    let ours: String = ours.fetch_one(connection).await.at(place)?;
    let all = [instance, ours].into_iter().chain(begun);
    Ok(all.collect::<Vec<_>>().join(" "))
}

/// Transactions without an id that are about to write, in this database.
const BEGUN: &str = "SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l \
    WHERE l.locktype = 'relation' AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
        'AccessExclusiveLock') AND l.relation >= 16384::pg_catalog.oid AND l.pid <> pg_catalog.pg_backend_pid() \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks x WHERE x.pid = l.pid AND x.locktype = 'transactionid' \
        AND x.mode = 'ExclusiveLock') ORDER BY 1";

/// Sees that whoever was open at the mark has ended: a snapshot that is taken now shows what they wrote.
///
/// # Errors
/// As [`check`].
pub(super) async fn check_all(
    connection: &mut PgConnection,
    fence: &str,
    place: &Place,
) -> Result<(), SourceError> {
    check_begun(connection, fence, place).await?;
    check(connection, fence, place).await
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
    let database = place.database.to_string();
    let mut marks = fence.split(' ');
    // The numbers of another server, or of this one before it was started anew, say nothing.
    let instance = identity::of_instance(connection, place).await?;
    if marks.next() != Some(&instance) {
        return Err(SourceError::FenceLost { database });
    }
    let mark = marks.next().unwrap_or_default();
    let found = sqlx::query_as(sql).bind(mark).fetch_one(&mut *connection);
    match found.await.at(place)? {
        (true, _) => Ok(()),
        (false, false) => Err(SourceError::FenceLost { database }),
        (false, true) => {
            let who = open(connection, mark, place).await?;
            Err(SourceError::OpenTransactions { database, who })
        }
    }
}

/// Checks, before a snapshot is taken, that transactions noted without an id have ended.
///
/// # Errors
/// [`SourceError::OpenTransactions`].
pub(super) async fn check_begun(
    connection: &mut PgConnection,
    fence: &str,
    place: &Place,
) -> Result<(), SourceError> {
    let begun: Vec<&str> = fence.split(' ').skip(2).collect();
    let who = still_open(connection, &begun, place).await?;
    if who.is_empty() {
        return Ok(());
    }
    let database = place.database.to_string();
    Err(SourceError::OpenTransactions { database, who })
}

/// A transaction keeps its start number until it ends or is prepared. Which prepared transaction it became, nobody can
/// tell, so all of them count.
const STILL_OPEN: &str = "FROM pg_catalog.pg_locks l \
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
    LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid \
    WHERE l.locktype = 'virtualxid' AND l.virtualxid = ANY ($1) AND l.mode = 'ExclusiveLock' \
        OR l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.pid IS NULL \
    LIMIT $2";

/// Those noted without an id that are still open, or may be prepared.
async fn still_open(
    connection: &mut PgConnection,
    begun: &[&str],
    place: &Place,
) -> Result<String, SourceError> {
    if begun.is_empty() {
        return Ok(String::new());
    }
    let sql = format!("SELECT {} {STILL_OPEN}", who::OF_A_LOCK);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(begun).bind(NAMED);
    let rows = rows.fetch_all(connection).await.at(place)?;
    let named: Result<Vec<_>, sqlx::Error> = rows.iter().map(who::name).collect();
    Ok(named.at(place)?.join("; "))
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
