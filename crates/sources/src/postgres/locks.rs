//! Who holds locks on a table that keep us from its rows.

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{catalogue::Table, faults::Located, parts::TREE, who};
use crate::SourceError;

/// At most so many are named.
const NAMED: i64 = 3;
/// What bars us from the table, then what waits to do so and bars us as well, then what may hold rows of it.
const RANK: &str = "CASE WHEN l.mode IN ('RowShareLock', 'RowExclusiveLock') THEN 3 WHEN l.granted THEN 1 ELSE 2 END";
/// Sessions of ours hold rows for a moment only; they are not who is waited for.
const OTHERS: &str = "l.locktype = 'relation' \
    AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock') \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND (l.relation IN (SELECT oid FROM tree) OR l.relation IN \
        (SELECT x.indexrelid FROM pg_catalog.pg_index x JOIN tree ON x.indrelid = tree.oid)) \
    AND (a.application_name = 'rekey' AND a.usename = current_user) IS NOT TRUE";

/// Names them; None where nobody holds one any more.
pub(super) async fn holders(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Option<String>, SourceError> {
    let sql = format!(
        "{TREE} SELECT {}, min({RANK}) AS rank FROM pg_catalog.pg_locks l \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_catalog.pg_locks t ON l.pid IS NULL AND t.pid IS NULL AND t.granted \
             AND t.locktype = 'transactionid' AND t.virtualtransaction = l.virtualtransaction \
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = t.transactionid \
         WHERE {OTHERS} GROUP BY 1, 2, 3, 4, 5 ORDER BY rank, 5 LIMIT $2",
        who::OF_A_LOCK
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(table.oid).bind(NAMED);
    let rows = rows.fetch_all(connection).await.at(&table.place)?;
    let named = of_first_rank(&rows).at(&table.place)?;
    Ok((!named.is_empty()).then(|| named.join("; ")))
}

/// If someone bars us from the whole table, holders of single rows do not matter.
fn of_first_rank(rows: &[PgRow]) -> Result<Vec<String>, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let first: i32 = first.try_get("rank")?;
    let mut named = Vec::new();
    for row in rows {
        if row.try_get::<i32, _>("rank")? == first {
            named.push(who::name(row)?);
        }
    }
    Ok(named)
}
