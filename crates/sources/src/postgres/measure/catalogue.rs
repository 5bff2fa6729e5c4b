//! What the catalogue and its statistics say of a table, heap by heap.

use std::collections::HashMap;

use rekey_domain::{Basis, Storage};
use sqlx::{
    AssertSqlSafe, PgConnection, Row,
    postgres::{PgRow, types::Oid},
};

use super::super::{catalogue::Table, faults::Located, names::Name, parts::TREE};
use crate::{ColumnMeasure, SourceError, TableMeasure};

const HEAPS: &str = "SELECT n.nspname::text, c.relname::text, c.oid, \
     coalesce(pg_catalog.pg_relation_size(c.oid), 0), \
     coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0), \
     coalesce(pg_catalog.pg_indexes_size(c.oid), 0), \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid), \
     CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN (c.reltuples / c.relpages)::float8 END, \
     pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_hot_updated(c.oid), \
     pg_catalog.current_setting('block_size')::int8, \
     (SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) \
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
     coalesce((SELECT o.option_value::float8 FROM pg_catalog.pg_options_to_table(c.reloptions) o \
      WHERE o.option_name = 'fillfactor'), 100) / 100 \
 FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY 1, 2";

/// Of the columns that our role may read; others have no row here.
const STATISTICS: &str = "SELECT c.oid, s.attname::text, s.null_frac::float8, s.avg_width::float8 \
 FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname \
 WHERE c.relkind = 'r' AND NOT s.inherited";

/// An index also depends on the columns of its expressions and its condition. A partition's index that belongs to an
/// index of the whole table is not listed beside it.
const INDEXES: &str = "SELECT DISTINCT a.attname::text, pg_catalog.quote_ident(c.relname::text) \
 FROM tree JOIN pg_catalog.pg_index x ON x.indrelid = tree.oid \
 JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid \
 JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attname = ANY ($2) \
 WHERE (a.attnum = ANY (x.indkey::int2[]) OR EXISTS (SELECT FROM pg_catalog.pg_depend d \
     WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid \
     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = tree.oid AND d.refobjsubid = a.attnum)) \
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = x.indexrelid) ORDER BY 2";

const SLOTS: &str = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots \
 WHERE database IS NULL OR database = pg_catalog.current_database() ORDER BY 1";

/// A heap, as the catalogue has it.
pub(super) struct Heap {
    pub(super) name: Name,
    pub(super) oid: Oid,
    pub(super) bytes: i64,
    pub(super) toast: i64,
    pub(super) index: i64,
    pub(super) indexes: i64,
    pub(super) per_block: Option<f64>,
    pub(super) updates: i64,
    pub(super) hot: i64,
    pub(super) block: i64,
    /// Whether every column may be read.
    pub(super) open: bool,
    /// How much of a block new rows may fill.
    pub(super) fill: f64,
}

/// By column: the share of NULLs, and the bytes of a value.
pub(super) type Statistics = HashMap<String, (f64, f64)>;

pub(super) async fn heaps(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Vec<Heap>, SourceError> {
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
        fill: row.try_get(12)?,
    })
}

pub(super) async fn statistics(
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
pub(super) async fn empty(
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
