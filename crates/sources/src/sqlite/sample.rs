//! A bounded number of rows from all over a table, and what stands in them.

use std::collections::BTreeMap;

use rekey_domain::Range;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{catalogue::Table, census, faults::Located};
use crate::{CensusColumn, Sample, SourceError};

/// Slices of the rowids; some rows at the start of each are looked at, and of the last at its end,
/// where the latest are.
const SLICES: u32 = 8;

/// Some rows of a table, as SQL: the slice as `slice`, the rowid as `id`, and what was asked for.
pub(super) struct SomeRows {
    /// As a query.
    pub(super) sql: String,
    /// The slices; none in a table without rowids, or without rows.
    pub(super) slices: Vec<Range>,
    /// At most so many rows of each.
    pub(super) each: u32,
}

/// About `rows` rows; `expressions` speak of the row as `t`.
pub(super) async fn some_rows(
    connection: &mut SqliteConnection,
    table: &Table,
    expressions: &str,
    rows: u32,
) -> Result<SomeRows, SourceError> {
    let from = table.sql();
    let first_rows = |each| SomeRows {
        sql: format!("SELECT 0 AS slice, 0 AS id, {expressions} FROM {from} LIMIT {each}"),
        slices: Vec::new(),
        each,
    };
    if !table.has_rowid() {
        return Ok(first_rows(rows));
    }
    let rowid = table.rowid();
    // Two queries: each is the one end of the table's own b-tree.
    let ends =
        format!("SELECT (SELECT min({rowid}) FROM {from}), (SELECT max({rowid}) FROM {from})");
    let ends = sqlx::query_as(AssertSqlSafe(ends)).fetch_one(connection);
    let ends: (Option<i64>, Option<i64>) = ends.await.at(&table.place)?;
    let (Some(lowest), Some(highest)) = ends else {
        return Ok(first_rows(rows));
    };
    let slices = slices(lowest, highest);
    let each = rows.div_ceil(SLICES);
    let selects = slices.iter().enumerate().map(|(slice, range)| {
        let Range { first, last } = range;
        let order = if slice + 1 == slices.len() {
            "DESC"
        } else {
            "ASC"
        };
        format!(
            "SELECT * FROM (SELECT {slice} AS slice, {rowid} AS id, {expressions} FROM {from} \
             WHERE {rowid} BETWEEN {first} AND {last} ORDER BY {rowid} {order} LIMIT {each})"
        )
    });
    let sql = selects.collect::<Vec<_>>().join(" UNION ALL ");
    Ok(SomeRows { sql, slices, each })
}

/// The span in slices of one size.
fn slices(first: i64, last: i64) -> Vec<Range> {
    let span = i128::from(last) - i128::from(first) + 1;
    let count = i128::from(SLICES).min(span);
    let at = |slice| i64::try_from(i128::from(first) + span * slice / count).unwrap_or(last);
    let slice = |slice| Range {
        first: at(slice),
        last: if slice + 1 == count {
            last
        } else {
            at(slice + 1) - 1
        },
    };
    (0..count).map(slice).collect()
}

/// Looks at about `rows` rows.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
    rows: u32,
) -> Result<Sample, SourceError> {
    let values: Result<Vec<_>, SourceError> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| Ok(format!("{} AS v{at}", table.column(&column.name)?)))
        .collect();
    let values = values?.join(", ");
    let some = some_rows(connection, table, &values, rows).await?;
    let counted = format!("SELECT slice, count(*) FROM ({}) GROUP BY 1", some.sql);
    let counted = sqlx::query_as(AssertSqlSafe(counted)).fetch_all(&mut *connection);
    let counted: Vec<(i64, i64)> = counted.await.at(&table.place)?;
    let mut sample = Sample {
        rows: counted.iter().map(|(_, count)| count.unsigned_abs()).sum(),
        whole: counted
            .iter()
            .all(|(_, count)| *count < i64::from(some.each)),
        counts: Vec::with_capacity(columns.len()),
    };
    for (at, column) in columns.iter().enumerate() {
        let value = format!("v{at}");
        let start = census::start_of_ciphertext(&value, column.encoding, column.by);
        let sql = format!(
            "SELECT start, count(*) FROM (SELECT {start} AS start FROM ({}) \
             WHERE {value} IS NOT NULL LIMIT -1) GROUP BY 1",
            some.sql
        );
        let groups = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection);
        let mut counts = BTreeMap::new();
        for row in &groups.await.at(&table.place)? {
            let (found, count) = census::group(row).at(&table.place)?;
            *counts.entry(found).or_default() += count;
        }
        sample.counts.push(counts.into_iter().collect());
    }
    Ok(sample)
}

/// Rows in a table, by how many the slices gave: a slice that gave fewer than asked for has no more.
pub(super) fn estimate(some: &SomeRows, found: &[(i64, i64, i64, i64)]) -> f64 {
    let of_slice = |(slice, rows, first, last): &(i64, i64, i64, i64)| {
        let range = usize::try_from(*slice)
            .ok()
            .and_then(|at| some.slices.get(at));
        match range {
            Some(range) if *rows >= i64::from(some.each) => {
                let span = range.last as f64 - range.first as f64 + 1.0;
                span * *rows as f64 / (*last as f64 - *first as f64 + 1.0)
            }
            _ => *rows as f64,
        }
    };
    found.iter().map(of_slice).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_any_span_once() {
        for (first, last) in [(1, 1), (-3, 4), (0, 1_000), (i64::MIN, i64::MAX)] {
            let slices = slices(first, last);
            assert_eq!(
                (slices[0].first, slices[slices.len() - 1].last),
                (first, last)
            );
            assert!(
                slices
                    .windows(2)
                    .all(|pair| pair[0].last + 1 == pair[1].first)
            );
        }
    }

    #[test]
    fn rows_are_as_dense_as_where_they_were_looked_at() {
        let some = SomeRows {
            sql: String::new(),
            slices: slices(1, 16_000),
            each: 100,
        };
        // Every tenth rowid, and a last slice with few.
        let found = [(0, 100, 1, 1_000), (7, 3, 14_001, 14_800)];
        assert_eq!(estimate(&some, &found), 203.0);
    }
}
