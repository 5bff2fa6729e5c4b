//! Ranges of a table: so many rows further along its rowids.

use rekey_domain::Range;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{catalogue::Table, faults::Located};
use crate::SourceError;

/// The greatest rowid now; None in an empty table.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<Option<i64>, SourceError> {
    let sql = format!("SELECT max({}) FROM {}", table.rowid(), table.sql());
    let end = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
    end.await.at(&table.place)
}

/// The range of the next `rows` rows after `after`, up to rowid `end`.
///
/// Walks the table's own b-tree, so holes cost nothing and a range starts and ends at a row.
pub(super) async fn next(
    connection: &mut SqliteConnection,
    table: &Table,
    after: Option<i64>,
    end: i64,
    rows: u32,
) -> Result<Option<Range>, SourceError> {
    let Some(from) = after.map_or(Some(i64::MIN), |after| after.checked_add(1)) else {
        return Ok(None);
    };
    let (rowid, from_table) = (table.rowid(), table.sql());
    let sql = format!(
        "SELECT min(id), max(id) FROM \
         (SELECT {rowid} AS id FROM {from_table} WHERE {rowid} BETWEEN ? AND ? \
         ORDER BY {rowid} LIMIT ?)"
    );
    let ends = sqlx::query_as(AssertSqlSafe(sql))
        .bind(from)
        .bind(end)
        .bind(i64::from(rows.max(1)))
        .fetch_one(connection);
    let (first, last): (Option<i64>, Option<i64>) = ends.await.at(&table.place)?;
    Ok(first.zip(last).map(|(first, last)| Range { first, last }))
}

/// How many rows a range has, found by rowid as the rows themselves are.
pub(super) async fn rows(
    connection: &mut SqliteConnection,
    table: &Table,
    range: Range,
) -> Result<i64, SourceError> {
    let (rowid, from) = (table.rowid(), table.sql());
    let sql = format!("SELECT count(*) FROM {from} WHERE {rowid} BETWEEN ? AND ?");
    let rows = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(range.first)
        .bind(range.last)
        .fetch_one(connection);
    rows.await.at(&table.place)
}

/// How many rows there are, whatever their rowids.
pub(super) async fn all_rows(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<i64, SourceError> {
    let sql = format!("SELECT count(*) FROM {}", table.sql());
    let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
    rows.await.at(&table.place)
}
