//! How large a table is: by `ANALYZE` where that was run and some of its rows, or counted.

use rekey_domain::{Basis, Storage};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    catalogue::Table,
    faults::Located,
    indexes, ranges,
    sample::{self, SomeRows},
};
use crate::{CensusColumn, ColumnMeasure, Measure, SourceError, TableMeasure};

/// Rows that are looked at where nothing is counted.
const SAMPLED_ROWS: u32 = 1_024;
/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;
/// Of a row, beside its values: its size, its rowid, its header.
const ROW_HEADER: u64 = 6;
/// Of an entry of an index, beside its value.
const ENTRY_HEADER: u64 = 9;

/// Sums over rows: rows, their bytes, and of each column its values and their bytes.
#[derive(Default)]
struct Sums {
    rows: u64,
    bytes: u64,
    columns: Vec<(u64, u64)>,
}

/// Measures the table.
pub(super) async fn table(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
    how: Measure,
) -> Result<TableMeasure, SourceError> {
    let (sums, basis, scale) = match how {
        Measure::Count => (
            count(connection, table, columns).await?,
            Basis::Counted,
            1.0,
        ),
        Measure::Estimate => estimate(connection, table, columns).await?,
    };
    let scaled = |figure: u64| (figure as f64 * scale).round() as u64;
    let mut measured = Vec::with_capacity(columns.len());
    for (column, (values, bytes)) in columns.iter().zip(&sums.columns) {
        measured.push(ColumnMeasure {
            values: scaled(*values),
            bytes: scaled(*bytes),
            indexes: indexes::of_column(connection, table, &column.name).await?,
        });
    }
    let entries = |column: &ColumnMeasure| {
        (column.bytes + column.values * ENTRY_HEADER) * column.indexes.len() as u64
    };
    let row_bytes = sums.bytes.checked_div(sums.rows).unwrap_or_default();
    let rows = scaled(sums.rows);
    Ok(TableMeasure {
        storage: Storage::Pages,
        parts: 1,
        rows,
        basis,
        row_bytes,
        heap_bytes: rows * row_bytes,
        toast_bytes: 0,
        // Only what our writes change: indexes on other columns stay as they are.
        index_bytes: measured.iter().map(entries).sum(),
        indexes: measured
            .iter()
            .map(|column| column.indexes.len() as u64)
            .sum(),
        columns: measured,
        updates: None,
        replication_slots: Vec::new(),
    })
}

/// Sums over some rows, how the number of all rows was found, and the factor from some rows to all.
async fn estimate(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
) -> Result<(Sums, Basis, f64), SourceError> {
    let expressions = expressions(table, columns)?;
    let some = sample::some_rows(connection, table, &expressions, SAMPLED_ROWS).await?;
    let sums = sum(connection, table, &some.sql, columns.len()).await?;
    let found = found(connection, table, &some).await?;
    let whole = found
        .iter()
        .all(|(_, rows, ..)| *rows < i64::from(some.each));
    let (rows, basis) = match analysed(connection, table).await? {
        _ if whole => (sums.rows as f64, Basis::Counted),
        Some(rows) => (rows as f64, Basis::Catalogue),
        None => (sample::estimate(&some, &found), Basis::Sample),
    };
    let scale = if sums.rows == 0 {
        0.0
    } else {
        rows / sums.rows as f64
    };
    Ok((sums, basis, scale))
}

/// Slice by slice: rows that were found, and their first and last rowid.
async fn found(
    connection: &mut SqliteConnection,
    table: &Table,
    some: &SomeRows,
) -> Result<Vec<(i64, i64, i64, i64)>, SourceError> {
    let sql = format!(
        "SELECT slice, count(*), min(id), max(id) FROM ({}) GROUP BY 1",
        some.sql
    );
    let found = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection);
    found.await.at(&table.place)
}

/// The rows that `ANALYZE` counted, if it was ever run. An index may leave rows out.
async fn analysed(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<Option<i64>, SourceError> {
    let known = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1')";
    let known = sqlx::query_scalar(known).fetch_one(&mut *connection);
    if !known.await.at(&table.place)? {
        return Ok(None);
    }
    let sql =
        "SELECT max(CAST(stat AS INTEGER)) FROM main.sqlite_stat1 WHERE tbl = ? COLLATE NOCASE";
    let rows = sqlx::query_scalar(sql)
        .bind(&table.name)
        .fetch_one(connection);
    rows.await.at(&table.place)
}

/// Range by range, up to the greatest rowid at the start.
async fn count(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
) -> Result<Sums, SourceError> {
    let (expressions, rowid, from) = (expressions(table, columns)?, table.rowid(), table.sql());
    let mut all = Sums {
        columns: vec![(0, 0); columns.len()],
        ..Sums::default()
    };
    let end = ranges::end(connection, table).await?;
    let mut after = None;
    while let Some(end) = end {
        let range = ranges::next(connection, table, after, end, RANGE_ROWS).await?;
        let Some(range) = range else { break };
        let (first, last) = (range.first, range.last);
        let rows =
            format!("SELECT {expressions} FROM {from} WHERE {rowid} BETWEEN {first} AND {last}");
        let sums = sum(connection, table, &rows, columns.len()).await?;
        (all.rows, all.bytes) = (all.rows + sums.rows, all.bytes + sums.bytes);
        for (one, more) in all.columns.iter_mut().zip(sums.columns) {
            *one = (one.0 + more.0, one.1 + more.1);
        }
        after = Some(range.last);
    }
    Ok(all)
}

/// Of each row its bytes, as `row`, and those of each column, as `c0` …
fn expressions(table: &Table, columns: &[CensusColumn]) -> Result<String, SourceError> {
    let size = |name: &str| Ok(format!("octet_length({})", table.column(name)?));
    let all = table.shape.columns.iter().map(|column| {
        let size: String = size(&column.name)?;
        Ok(format!("coalesce({size}, 0) + 1"))
    });
    let all: Result<Vec<_>, SourceError> = all.collect();
    let mut expressions = vec![format!("{ROW_HEADER} + {} AS row", all?.join(" + "))];
    for (at, column) in columns.iter().enumerate() {
        expressions.push(format!("{} AS c{at}", size(&column.name)?));
    }
    Ok(expressions.join(", "))
}

async fn sum(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &str,
    columns: usize,
) -> Result<Sums, SourceError> {
    let of_columns = (0..columns).map(|at| format!(", count(c{at}), coalesce(sum(c{at}), 0)"));
    let of_columns: String = of_columns.collect();
    let sql = format!("SELECT count(*), coalesce(sum(row), 0){of_columns} FROM ({rows})");
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(connection);
    let row = row.await.at(&table.place)?;
    let number = |at: usize| Ok(row.try_get::<i64, _>(at).at(&table.place)?.unsigned_abs());
    let columns = (0..columns).map(|at| Ok((number(2 + 2 * at)?, number(3 + 2 * at)?)));
    Ok(Sums {
        rows: number(0)?,
        bytes: number(1)?,
        columns: columns.collect::<Result<_, SourceError>>()?,
    })
}
