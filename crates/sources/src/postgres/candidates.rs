//! Every column of the database that could hold ciphertext.

use rekey_domain::TextEncoding;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{faults::Located, names::Name};
use crate::{CandidateTable, CensusColumn, CountedBy, SourceError, place::Place};

/// Whether a column `a` of a table `c` may be read in every part, and no index or statistics object there
/// calls a function that is not PostgreSQL's own: whoever plans a query of it would run that.
pub(super) const READABLE: &str = "\
    (SELECT coalesce(pg_catalog.bool_and(pg_catalog.has_schema_privilege(l.relnamespace, 'USAGE') \
          AND pg_catalog.has_column_privilege(l.oid, a.attname, 'SELECT') \
          AND pg_catalog.has_column_privilege(l.oid, 'ctid', 'SELECT') \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, \
                  'pg_catalog.pg_operator'::regclass, 'pg_catalog.pg_type'::regclass) \
              AND (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid IN \
                      (SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid) \
                  OR d.classid = 'pg_catalog.pg_statistic_ext'::regclass AND d.objid IN \
                      (SELECT s.oid FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = l.oid)))), true) \
      FROM pg_catalog.pg_class l WHERE l.relkind IN ('r', 'm') AND l.oid IN (WITH RECURSIVE below (oid) AS ( \
          SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.oid) \
          SELECT oid FROM below))";

/// Tables, roots of partitions and materialized views. Of a table that inherits only its own columns, as the others are
/// read with its parent. A domain counts as the type it is based on.
fn columns() -> String {
    format!(
        "WITH RECURSIVE base (oid, text) AS ( \
     SELECT oid, oid <> 'bytea'::regtype FROM pg_catalog.pg_type \
     WHERE oid IN ('bytea'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) \
     UNION SELECT t.oid, base.text FROM pg_catalog.pg_type t \
     JOIN base ON t.typbasetype = base.oid AND t.typtype = 'd') \
 SELECT n.nspname::text, c.relname::text, a.attname::text, base.text, \
     {READABLE} \
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid JOIN base ON base.oid = a.atttypid \
 WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' \
     AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount = 0 \
 ORDER BY 1, 2, a.attnum"
    )
}

/// Table by table, in the order of their names.
pub(super) async fn find(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Vec<CandidateTable>, SourceError> {
    let rows = sqlx::query(AssertSqlSafe(columns()))
        .fetch_all(connection)
        .await
        .at(place)?;
    let mut tables: Vec<CandidateTable> = Vec::new();
    for row in &rows {
        add(row, &mut tables).at(place)?;
    }
    Ok(tables)
}

fn add(row: &PgRow, tables: &mut Vec<CandidateTable>) -> Result<(), sqlx::Error> {
    let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let full_name = format!("{schema}.{name}");
    let name = Name {
        schema: Some(schema),
        table: name,
    };
    let relation = name.sql();
    if tables.last().is_none_or(|last| last.relation != relation) {
        tables.push(CandidateTable {
            relation,
            full_name,
            columns: Vec::new(),
            unreadable: Vec::new(),
        });
    }
    let table = tables.last_mut().expect("one was pushed");
    let column: String = row.try_get(2)?;
    if !row.try_get::<bool, _>(4)? {
        table.unreadable.push(column);
        return Ok(());
    }
    let is_text: bool = row.try_get(3)?;
    let encoding = if is_text {
        TextEncoding::Base64
    } else {
        TextEncoding::Binary
    };
    table.columns.push(CensusColumn {
        name: column,
        encoding,
        by: CountedBy::Form,
    });
    Ok(())
}
