//! How large a table is: by the catalogue, by some of its rows where that knows nothing, or counted.

mod catalogue;

use rekey_domain::{Basis, Part, PartId, Range};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use self::catalogue::{Heap, Statistics, empty, heaps, statistics};
use super::{
    catalogue::Table,
    connections,
    faults::{self, Located},
    names::quote,
    ranges, sql,
};
use crate::{CensusColumn, Measure, SourceError, TableMeasure, inspect::spread, place::Place};

/// Where there are no statistics: places in a heap, and blocks of each.
const PLACES: i64 = 4;
const BLOCKS_EACH: i64 = 4;
/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;
/// Of a row: its header and what points to it in its block; columns start at multiples of 8.
const ROW_HEADER: f64 = 28.0;

/// Rows and values of a heap.
struct Counted {
    basis: Basis,
    rows: f64,
    row_bytes: f64,
    /// Values and bytes of each column.
    columns: Vec<(f64, f64)>,
}

/// Measures the table, part by part.
pub(super) async fn table(
    connection: &mut PgConnection,
    table: &Table,
    columns: &[CensusColumn],
    how: Measure,
) -> Result<TableMeasure, SourceError> {
    let names: Result<Vec<_>, SourceError> = columns
        .iter()
        .map(|column| Ok(table.shape_of(&column.name)?.name.clone()))
        .collect();
    let names = names?;
    let heaps = heaps(connection, table).await?;
    let mut statistics = statistics(connection, table).await?;
    let mut measure = empty(connection, table, &names).await?;
    measure.parts = heaps.len() as u64;
    let (mut rows, mut row_bytes) = (0.0, 0.0);
    let mut sums = vec![(0.0, 0.0); names.len()];
    for heap in &heaps {
        let known = statistics.remove(&heap.oid.0).unwrap_or_default();
        let counted = count(connection, table, heap, &names, &known, how).await?;
        measure.basis = measure.basis.max(counted.basis);
        rows += counted.rows;
        row_bytes += counted.rows * counted.row_bytes;
        for (sum, of_heap) in sums.iter_mut().zip(&counted.columns) {
            *sum = (sum.0 + of_heap.0, sum.1 + of_heap.1);
        }
        measure.heap_bytes += heap.bytes.unsigned_abs();
        measure.toast_bytes += heap.toast.unsigned_abs();
        measure.index_bytes += heap.index.unsigned_abs();
        measure.indexes = measure.indexes.max(heap.indexes.unsigned_abs());
        let (updates, hot) = measure.updates.unwrap_or_default();
        measure.updates = Some((
            updates + heap.updates.unsigned_abs(),
            hot + heap.hot.unsigned_abs(),
        ));
    }
    measure.rows = rows.round() as u64;
    measure.row_bytes = if rows > 0.0 {
        (row_bytes / rows).round() as u64
    } else {
        0
    };
    for (column, (values, bytes)) in measure.columns.iter_mut().zip(sums) {
        (column.values, column.bytes) = (values.round() as u64, bytes.round() as u64);
    }
    Ok(measure)
}

async fn count(
    connection: &mut PgConnection,
    table: &Table,
    heap: &Heap,
    names: &[String],
    known: &Statistics,
    how: Measure,
) -> Result<Counted, SourceError> {
    let blocks = heap.bytes / heap.block;
    if how == Measure::Estimate
        && blocks > 0
        && let Some(estimated) = estimate(heap, table, names, known, blocks)
    {
        return Ok(estimated);
    }
    let ranges = match how {
        Measure::Estimate => few(blocks),
        Measure::Count => all(heap, blocks),
    };
    let looked: i64 = ranges
        .iter()
        .map(|range| range.last - range.first + 1)
        .sum();
    let mut counted = Counted {
        basis: if looked == blocks {
            Basis::Counted
        } else {
            Basis::Sample
        },
        rows: 0.0,
        row_bytes: 0.0,
        columns: vec![(0.0, 0.0); names.len()],
    };
    for range in ranges {
        add(connection, table, heap, names, range, &mut counted).await?;
    }
    counted.row_bytes = row_bytes(&counted, heap, table, known, blocks, looked);
    let scale = if looked == 0 {
        0.0
    } else {
        blocks as f64 / looked as f64
    };
    counted.rows *= scale;
    for (values, bytes) in &mut counted.columns {
        (*values, *bytes) = (*values * scale, *bytes * scale);
    }
    Ok(counted)
}

/// By the statistics alone, as the planner does it: rows in a block, and blocks now.
fn estimate(
    heap: &Heap,
    table: &Table,
    names: &[String],
    known: &Statistics,
    blocks: i64,
) -> Option<Counted> {
    let rows = heap.per_block? * blocks as f64;
    let columns: Option<Vec<_>> = names
        .iter()
        .map(|name| {
            let (nulls, width) = known.get(name)?;
            let values = rows * (1.0 - nulls);
            Some((values, values * width))
        })
        .collect();
    Some(Counted {
        basis: Basis::Catalogue,
        rows,
        row_bytes: known_row_bytes(table, known)
            .unwrap_or(heap.bytes as f64 * heap.fill / rows.max(1.0)),
        columns: columns?,
    })
}

/// Where the statistics have every column of the table.
fn known_row_bytes(table: &Table, known: &Statistics) -> Option<f64> {
    let widths = table.shape.columns.iter().map(|column| {
        let (nulls, width) = known.get(&column.name)?;
        Some((1.0 - nulls) * width)
    });
    let bytes: f64 = widths.sum::<Option<f64>>()? + ROW_HEADER;
    Some((bytes / 8.0).ceil() * 8.0)
}

/// As was found, else as the statistics say, else as if the heap was as full as new rows may make it.
fn row_bytes(
    counted: &Counted,
    heap: &Heap,
    table: &Table,
    known: &Statistics,
    blocks: i64,
    looked: i64,
) -> f64 {
    if counted.rows == 0.0 {
        return 0.0;
    }
    if heap.open && counted.row_bytes > 0.0 {
        let bytes = counted.row_bytes / counted.rows + ROW_HEADER;
        return (bytes / 8.0).ceil() * 8.0;
    }
    let full = heap.bytes as f64 * heap.fill * looked as f64 / blocks.max(1) as f64 / counted.rows;
    known_row_bytes(table, known).unwrap_or(full)
}

fn few(blocks: i64) -> Vec<Range> {
    if blocks == 0 {
        return Vec::new();
    }
    spread(0, blocks - 1, PLACES, BLOCKS_EACH)
}

fn all(heap: &Heap, blocks: i64) -> Vec<Range> {
    let part = Part {
        id: PartId {
            name: heap.name.sql(),
            form: String::new(),
        },
        end: (blocks > 0).then(|| blocks - 1),
        rows_per_block: heap
            .per_block
            .and_then(ranges::whole_rows)
            .unwrap_or(ranges::USUAL_ROWS),
    };
    let next = |range: &Range| ranges::next(&part, Some(range.last), RANGE_ROWS);
    std::iter::successors(ranges::next(&part, None, RANGE_ROWS), next).collect()
}

async fn add(
    connection: &mut PgConnection,
    table: &Table,
    heap: &Heap,
    names: &[String],
    range: Range,
    counted: &mut Counted,
) -> Result<(), SourceError> {
    let only = format!("ONLY {}", heap.name.sql());
    let place = Place::new(&table.place.database, &heap.name.sql());
    let statement = sql::rows_in(&sums(table, heap, names), &only, range);
    connections::steady_by_place(connection, &place).await?;
    // Begun for each range, as code of the table's owner that runs in one may change the session for the next.
    let transaction = connection.begin_with("BEGIN READ ONLY").await;
    let mut transaction = transaction.at(&place)?;
    let row = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    let row = row.fetch_one(&mut *transaction).await;
    let row = row.map_err(|error| faults::of_part(&error, &table.place, &place))?;
    transaction.commit().await.at(&place)?;
    let number = |at: usize| row.try_get::<i64, _>(at).at(&place);
    counted.rows += number(0)? as f64;
    counted.row_bytes += number(1)? as f64;
    for (at, (values, bytes)) in counted.columns.iter_mut().enumerate() {
        *values += number(2 + 2 * at)? as f64;
        *bytes += number(3 + 2 * at)? as f64;
    }
    Ok(())
}

/// Sizes as they are stored; no wide value is fetched for its size.
fn sums(table: &Table, heap: &Heap, names: &[String]) -> String {
    // A value that is wider than a row may be lies apart, and only a pointer to it in the row.
    let size = |name: &str| {
        let size = format!("pg_catalog.pg_column_size(t.{})", quote(name));
        format!("CASE WHEN {size} OPERATOR(pg_catalog.>) 2000 THEN 18 ELSE coalesce({size}, 0) END")
    };
    let row = if heap.open {
        let columns = table.shape.columns.iter();
        let sizes: Vec<_> = columns.map(|column| size(&column.name)).collect();
        let all = sizes.join(" OPERATOR(pg_catalog.+) ");
        format!("coalesce(pg_catalog.sum({all}), 0)::pg_catalog.int8")
    } else {
        "0::pg_catalog.int8".to_owned()
    };
    let columns = names.iter().map(|name| {
        let value = format!("t.{}", quote(name));
        let bytes = format!("pg_catalog.sum(pg_catalog.octet_length({value}))");
        format!("pg_catalog.count({value}), coalesce({bytes}, 0)::pg_catalog.int8")
    });
    let columns: Vec<_> = columns.collect();
    format!("pg_catalog.count(t.ctid), {row}, {}", columns.join(", "))
}
