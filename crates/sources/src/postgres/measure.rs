//! How large a table is: by the catalogue, by some of its rows where that knows nothing, or counted.

use std::collections::HashMap;

use rekey_domain::{Basis, Part, PartId, Range, Storage};
use sqlx::{
    AssertSqlSafe, PgConnection, Row,
    postgres::{PgRow, types::Oid},
};

use super::{
    catalogue::Table,
    faults::{self, Located},
    names::{Name, quote},
    parts::TREE,
    ranges, sql,
};
use crate::{
    CensusColumn, ColumnMeasure, Measure, SourceError, TableMeasure, inspect::spread, place::Place,
};

/// Where there are no statistics: places in a heap, and blocks of each.
const PLACES: i64 = 4;
const BLOCKS_EACH: i64 = 4;
/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;
/// Of a row: its header and what points to it in its block; columns start at multiples of 8.
const ROW_HEADER: f64 = 28.0;

const HEAPS: &str = "SELECT n.nspname::text, c.relname::text, c.oid, \
     coalesce(pg_catalog.pg_relation_size(c.oid), 0), \
     coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0), \
     coalesce(pg_catalog.pg_indexes_size(c.oid), 0), \
     (SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid), \
     CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN (c.reltuples / c.relpages)::float8 END, \
     pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_hot_updated(c.oid), \
     current_setting('block_size')::int8, \
     (SELECT bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) \
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
 FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY 1, 2";

/// Of the columns that our role may read; others have no row here.
const STATISTICS: &str = "SELECT c.oid, s.attname::text, s.null_frac::float8, s.avg_width::float8 \
 FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname \
 WHERE c.relkind = 'r' AND NOT s.inherited";

/// An index depends on the columns of its expressions and of its condition too. One that belongs to
/// an index of the whole is not listed beside it.
const INDEXES: &str = "SELECT DISTINCT a.attname::text, x.indexrelid::regclass::text \
 FROM tree JOIN pg_catalog.pg_index x ON x.indrelid = tree.oid \
 JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attname = ANY ($2) \
 WHERE (a.attnum = ANY (x.indkey::int2[]) OR EXISTS (SELECT FROM pg_catalog.pg_depend d \
     WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid \
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = tree.oid AND d.refobjsubid = a.attnum)) \
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = x.indexrelid) ORDER BY 2";

const SLOTS: &str = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots \
 WHERE database IS NULL OR database = current_database() ORDER BY 1";

struct Heap {
    name: Name,
    oid: Oid,
    bytes: i64,
    toast: i64,
    index: i64,
    indexes: i64,
    per_block: Option<f64>,
    updates: i64,
    hot: i64,
    block: i64,
    /// Whether every column may be read.
    open: bool,
}

/// Rows and values of a heap.
struct Counted {
    basis: Basis,
    rows: f64,
    row_bytes: f64,
    /// Values and bytes of each column.
    columns: Vec<(f64, f64)>,
}

/// By column: the share of NULLs, and the bytes of a value.
type Statistics = HashMap<String, (f64, f64)>;

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

async fn heaps(connection: &mut PgConnection, table: &Table) -> Result<Vec<Heap>, SourceError> {
    let rows = sqlx::query(AssertSqlSafe(format!("{TREE} {HEAPS}"))).bind(table.oid);
    let rows = rows.fetch_all(connection).await.at(&table.place)?;
    let heaps: Result<Vec<_>, sqlx::Error> = rows.iter().map(heap).collect();
    heaps.at(&table.place)
}

fn heap(row: &PgRow) -> Result<Heap, sqlx::Error> {
    Ok(Heap {
        name: Name {
            schema: Some(row.try_get(0)?),
            table: row.try_get(1)?,
        },
        oid: row.try_get(2)?,
        bytes: row.try_get(3)?,
        toast: row.try_get(4)?,
        index: row.try_get(5)?,
        indexes: row.try_get(6)?,
        per_block: row.try_get(7)?,
        updates: row.try_get(8)?,
        hot: row.try_get(9)?,
        block: row.try_get(10)?,
        open: row.try_get(11)?,
    })
}

async fn statistics(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<HashMap<u32, Statistics>, SourceError> {
    let rows = sqlx::query_as(AssertSqlSafe(format!("{TREE} {STATISTICS}"))).bind(table.oid);
    let rows: Vec<(Oid, String, f64, f64)> = rows.fetch_all(connection).await.at(&table.place)?;
    let mut statistics = HashMap::<u32, Statistics>::new();
    for (Oid(heap), column, nulls, width) in rows {
        let of_heap = statistics.entry(heap).or_default();
        of_heap.insert(column, (nulls, width));
    }
    Ok(statistics)
}

/// What is known of the table as a whole.
async fn empty(
    connection: &mut PgConnection,
    table: &Table,
    names: &[String],
) -> Result<TableMeasure, SourceError> {
    let indexes = sqlx::query_as(AssertSqlSafe(format!("{TREE} {INDEXES}")))
        .bind(table.oid)
        .bind(names)
        .fetch_all(&mut *connection);
    let indexes: Vec<(String, String)> = indexes.await.at(&table.place)?;
    let slots = sqlx::query_scalar(SLOTS).fetch_all(connection);
    let column = |name: &String| ColumnMeasure {
        values: 0,
        bytes: 0,
        indexes: indexes
            .iter()
            .filter(|(column, _)| column == name)
            .map(|(_, index)| index.clone())
            .collect(),
    };
    Ok(TableMeasure {
        storage: Storage::Versions,
        parts: 0,
        rows: 0,
        basis: Basis::Counted,
        row_bytes: 0,
        heap_bytes: 0,
        toast_bytes: 0,
        index_bytes: 0,
        indexes: 0,
        columns: names.iter().map(column).collect(),
        updates: Some((0, 0)),
        replication_slots: slots.await.at(&table.place)?,
    })
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
        row_bytes: known_row_bytes(table, known).unwrap_or(heap.bytes as f64 / rows.max(1.0)),
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

/// As was found, else as the statistics say, else as if the heap was full.
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
    let full = heap.bytes as f64 * looked as f64 / blocks.max(1) as f64 / counted.rows;
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
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(connection);
    let in_part = |error| faults::of_part(&error, &table.place, &place);
    let row = row.await.map_err(in_part)?;
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
        let size = format!("pg_column_size(t.{})", quote(name));
        format!("CASE WHEN {size} > 2000 THEN 18 ELSE coalesce({size}, 0) END")
    };
    let row = if heap.open {
        let columns = table.shape.columns.iter();
        let sizes: Vec<_> = columns.map(|column| size(&column.name)).collect();
        format!("coalesce(sum({}), 0)::int8", sizes.join(" + "))
    } else {
        "0::int8".to_owned()
    };
    let columns = names.iter().map(|name| {
        let value = quote(name);
        format!("count(t.{value}), coalesce(sum(octet_length(t.{value})), 0)::int8")
    });
    let columns: Vec<_> = columns.collect();
    format!("count(t.ctid), {row}, {}", columns.join(", "))
}
