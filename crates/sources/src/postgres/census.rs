//! Counting the values of all protected columns of a table by the key their first bytes name.
//!
//! An update moves a row to another block, and may move it to another partition: counted in
//! statements that each see another moment, it could be missed, or counted twice. So all of them
//! see one moment. Each is short; their transaction is as long as the table is large.

use std::collections::BTreeMap;

use rekey_domain::{Found, Range, TextEncoding};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, ValueRef, postgres::PgRow};

use super::{
    catalogue::Table,
    faults::{self, Located},
    parts::{self, Heap},
    ranges,
    rows::text,
    sql,
};
use crate::{CensusColumn, SourceError, place::Place};

/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;

pub(super) type Counts = BTreeMap<(usize, Found), u64>;

/// The values of each column that are not NULL, by what they are.
pub(super) async fn count(
    connection: &mut PgConnection,
    place: Place,
    columns: &[CensusColumn],
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut transaction = connection.begin_with(begin).await.at(&place)?;
    refuse_standby(&mut transaction, &place).await?;
    let table = Table::find(&mut transaction, place).await?;
    let groups = groups(&table, columns)?;
    let mut counts = Counts::new();
    for heap in parts::find(&mut transaction, &table).await? {
        count_heap(
            &mut transaction,
            &table,
            heap,
            &groups,
            columns,
            &mut counts,
        )
        .await?;
    }
    transaction.commit().await.at(&table.place)?;
    Ok(by_column(counts, columns.len()))
}

pub(super) fn by_column(counts: Counts, columns: usize) -> Vec<Vec<(Found, u64)>> {
    let mut by_column = vec![Vec::new(); columns];
    for ((column, found), values) in counts {
        by_column[column].push((found, values));
    }
    by_column
}

pub(super) async fn refuse_standby(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let standby = sqlx::query_scalar("SELECT pg_catalog.pg_is_in_recovery()");
    if !standby.fetch_one(connection).await.at(place)? {
        return Ok(());
    }
    Err(SourceError::Standby {
        database: place.database.to_string(),
    })
}

/// What each column is grouped by.
fn groups(table: &Table, columns: &[CensusColumn]) -> Result<Vec<String>, SourceError> {
    let group = |column: &CensusColumn| {
        let value = format!("t.{}", table.protected(&column.name, column.encoding)?);
        Ok(sql::group(&value, column.encoding))
    };
    columns.iter().map(group).collect()
}

async fn count_heap(
    connection: &mut PgConnection,
    table: &Table,
    heap: Heap,
    groups: &[String],
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), SourceError> {
    let (place, only) = (heap.place(&table.place), heap.only());
    // This locks the heap against being written anew, so that its blocks are what they are from
    // here on; what is added behind them is of a later moment than ours.
    let lock = format!("SELECT FROM {only} AS t LIMIT 0");
    let locked = sqlx::query(AssertSqlSafe(lock)).execute(&mut *connection);
    let in_part = |error| faults::of_part(&error, &table.place, &place);
    locked.await.map_err(in_part)?;
    let heap = heap.now(connection, &place).await?;
    let rows_per_block = heap.rows_per_block(connection, &table.place).await?;
    let part = heap.part(rows_per_block);
    let mut after = None;
    while let Some(range) = ranges::next(&part, after, RANGE_ROWS) {
        let rows = sqlx::query(AssertSqlSafe(select(&only, groups, &[range]))).persistent(false);
        for row in &rows.fetch_all(&mut *connection).await.map_err(in_part)? {
            add(row, columns, counts).at(&place)?;
        }
        after = Some(range.last);
    }
    Ok(())
}

/// One scan counts every column: each is a grouping set of its own.
pub(super) fn select(only: &str, groups: &[String], ranges: &[Range]) -> String {
    let named = groups.iter().enumerate();
    let named: Vec<_> = named
        .map(|(at, group)| format!("{group} AS g{at}"))
        .collect();
    let column: Vec<_> = (0..groups.len())
        .map(|at| format!("WHEN GROUPING(g{at}) = 0 THEN {at}"))
        .collect();
    let value: Vec<_> = (0..groups.len())
        .map(|at| format!("WHEN GROUPING(g{at}) = 0 THEN g{at}"))
        .collect();
    let sets: Vec<_> = (0..groups.len()).map(|at| format!("(g{at})")).collect();
    let (named, column, value, sets) = (
        named.join(", "),
        column.join(" "),
        value.join(" "),
        sets.join(", "),
    );
    let rows: Vec<_> = ranges
        .iter()
        .map(|range| sql::rows_in(&named, only, *range))
        .collect();
    let rows = rows.join(" UNION ALL ");
    format!(
        "SELECT CASE {column} END, CASE {value} END, count(*) FROM ({rows}) AS v \
         GROUP BY GROUPING SETS ({sets})"
    )
}

pub(super) fn add(
    row: &PgRow,
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), sqlx::Error> {
    let column = row.try_get::<i32, _>(0)?.unsigned_abs() as usize;
    // NULL: no value.
    if row.try_get_raw(1)?.is_null() {
        return Ok(());
    }
    // What is not UTF-8 is no base64.
    let group = text(row, 1)?.unwrap_or_default();
    let found = found(group, columns[column].encoding);
    let values: i64 = row.try_get(2)?;
    *counts.entry((column, found)).or_default() += values.unsigned_abs();
    Ok(())
}

fn found(group: &str, encoding: TextEncoding) -> Found {
    sql::key_of_group(group, encoding).map_or(Found::NotCiphertext, Found::Key)
}
