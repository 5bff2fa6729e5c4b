//! Columns whose text could hold ciphertext among other things, and which keys some of their rows name there.

use std::collections::BTreeMap;

use rekey_domain::{KeyId, TextEncoding};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    candidates::READABLE,
    catalogue::Table,
    damage::{Careful, Piece},
    faults::Located,
    names::{Name, quote},
    parts, sample, sql,
};
use crate::{
    NotLookedAt, SourceError, Spelling, TextColumn, TextForm, TextTable, Texts,
    embedded::{self, LOOKED_THROUGH},
    place::Place,
};

/// Every column whose text may be of any length, as PostgreSQL or an extension writes it: `format` calls a type's
/// output function, and only superusers make those in C. Domains and arrays count as what they are made of. Types made
/// of others (composite types, ranges) are left out, as they would call the others' functions.
///
/// Numbers, addresses, bits and search words cannot hold ciphertext.
fn columns() -> String {
    format!(
        "WITH RECURSIVE base (oid, type) AS ( \
             SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.typtype <> 'd' \
             UNION ALL SELECT d.oid, base.type FROM pg_catalog.pg_type d \
             JOIN base ON d.typbasetype = base.oid AND d.typtype = 'd') \
         SELECT n.nspname::text, c.relname::text, a.attname::text, \
             pg_catalog.format_type(a.atttypid, a.atttypmod), \
             CASE WHEN t.oid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) THEN 'text' \
                 WHEN t.oid = 'bytea'::regtype THEN 'bytes' ELSE 'output' END, \
             CASE WHEN c.relkind = 'f' THEN 'its rows lie on another server' \
                 WHEN e.typtype = 'c' THEN 'it is composed of others' \
                 WHEN e.typtype IN ('r', 'm') THEN 'it is a range of others' \
                 WHEN l.lanname NOT IN ('c', 'internal') THEN 'code that is not of PostgreSQL or an extension writes it out' END, \
             {READABLE} \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
         JOIN base b ON b.oid = a.atttypid JOIN pg_catalog.pg_type t ON t.oid = b.type \
         LEFT JOIN base be ON t.typoutput = 'array_out'::regproc AND be.oid = t.typelem \
         JOIN pg_catalog.pg_type e ON e.oid = coalesce(be.type, t.oid) \
         JOIN pg_catalog.pg_proc p ON p.oid = e.typoutput JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
         WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' \
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount = 0 \
             AND e.typlen < 0 AND e.typtype IN ('b', 'c', 'r', 'm') \
             AND NOT (e.typnamespace = 'pg_catalog'::regnamespace AND (e.typtype IN ('r', 'm') OR e.typname IN \
                 ('numeric', 'inet', 'cidr', 'bit', 'varbit', 'path', 'polygon', 'tsvector', 'tsquery', \
                  'int2vector', 'oidvector'))) \
         ORDER BY 1, 2, a.attnum"
    )
}

const NOT_READABLE: &str = "this role may not read it, or an index of its table calls a function that is not PostgreSQL's own";

/// Table by table, in the order of their names.
pub(super) async fn find(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Vec<TextTable>, SourceError> {
    let columns = sqlx::AssertSqlSafe(columns());
    let rows = sqlx::query(columns).fetch_all(connection).await.at(place)?;
    let mut tables: Vec<TextTable> = Vec::new();
    for row in &rows {
        add(row, &mut tables).at(place)?;
    }
    Ok(tables)
}

fn add(row: &PgRow, tables: &mut Vec<TextTable>) -> Result<(), sqlx::Error> {
    let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let full_name = format!("{schema}.{table}");
    let schema = Some(schema);
    let relation = Name { schema, table }.sql();
    if tables.last().is_none_or(|last| last.relation != relation) {
        tables.push(TextTable {
            relation,
            full_name,
            columns: Vec::new(),
            not_looked_at: Vec::new(),
        });
    }
    let found = tables.last_mut().expect("one was pushed");
    let (name, why): (String, Option<String>) = (row.try_get(2)?, row.try_get(5)?);
    let form = match row.try_get(4)? {
        "text" => TextForm::Text,
        "bytes" => TextForm::Bytes,
        _ => TextForm::Output,
    };
    let why = match why {
        None if row.try_get(6)? => {
            found.columns.push(TextColumn { name, form });
            return Ok(());
        }
        // The others are among the candidates, which say so.
        None if form != TextForm::Output => return Ok(()),
        why => why.unwrap_or_else(|| NOT_READABLE.to_owned()),
    };
    found.not_looked_at.push(NotLookedAt {
        column: name,
        declared_type: row.try_get(3)?,
        why,
    });
    Ok(())
}

/// Looks at about `rows` rows. Only first characters of what may be ciphertext leave the server.
pub(super) async fn look(
    connection: &mut PgConnection,
    table: &Table,
    columns: &[TextColumn],
    rows: u32,
) -> Result<Texts, SourceError> {
    let texts: Result<Vec<_>, SourceError> =
        columns.iter().map(|column| text(table, column)).collect();
    let texts = texts?;
    let heaps = parts::find(connection, table).await?;
    let mut careful = Careful::begin(connection, &table.place).await?;
    let places = sample::places_of(&mut careful, table, heaps, rows).await?;
    let (mut looked_at, mut counts) = (0, vec![Counts::new(); columns.len()]);
    for (heap, ranges) in &places.heaps {
        looked_at += sample::count_rows(&mut careful, heap, ranges).await?;
        for range in ranges {
            let select = |which: &str| select(&heap.only, &texts, which);
            for piece in careful.pieces(heap, *range, select).await? {
                // What cannot be read is said of those that are looked at as a whole.
                let Piece::Rows(found) = piece else {
                    continue;
                };
                for row in &found {
                    count(row, &mut counts).at(&heap.place)?;
                }
            }
        }
    }
    let counts = counts.into_iter().map(Vec::from_iter);
    Ok(Texts {
        rows: looked_at,
        whole: places.whole,
        counts: counts.collect(),
    })
}

/// A value's text; none for a value that is ciphertext as a whole, which another look finds.
fn text(table: &Table, column: &TextColumn) -> Result<String, SourceError> {
    let value = format!("t.{}", quote(&table.shape_of(&column.name)?.name));
    let (encoding, text) = match column.form {
        TextForm::Output => {
            return Ok(format!(
                "pg_catalog.left(pg_catalog.format('%s', {value}), {LOOKED_THROUGH})"
            ));
        }
        TextForm::Text => (
            TextEncoding::Base64,
            format!("pg_catalog.left({value}::pg_catalog.text, {LOOKED_THROUGH})"),
        ),
        TextForm::Bytes => (
            TextEncoding::Binary,
            format!(
                "pg_catalog.encode(pg_catalog.substr({value}::pg_catalog.bytea, 1, {LOOKED_THROUGH}), 'escape')"
            ),
        ),
    };
    let whole = sql::is_ciphertext(&value, encoding);
    Ok(format!("CASE WHEN NOT {whole} THEN {text} END"))
}

/// How a ciphertext begins: after a character that cannot be part of one, and followed by as many as one has at least.
/// Finds the same as [`embedded::find`].
const BASE64: &str = r"(?:^|[^A-Za-z0-9+/_-]|\\[nrt])(A[Q-Za-f](?:\\?[A-Za-z0-9+/_-]){5})(?=(?:\\?[A-Za-z0-9+/_-]){37})";
const HEX: &str = r"(?:^|[^0-9A-Fa-f])(01[0-9A-Fa-f]{8})(?=[0-9A-Fa-f]{56})";

/// Of each column and spelling: what was found, and in how many rows.
fn select(only: &str, texts: &[String], which: &str) -> String {
    let of = |(at, text): (usize, &String)| {
        [(0, BASE64), (1, HEX)].map(|(spelling, pattern)| {
            format!(
                "SELECT {at}, {spelling}, (f.found)[1], pg_catalog.count(DISTINCT t.ctid) FROM {only} AS t, \
                 LATERAL pg_catalog.regexp_matches({text} COLLATE pg_catalog.\"C\", '{pattern}', 'g') AS f (found) \
                 WHERE {which} GROUP BY (f.found)[1]"
            )
        })
    };
    let selects: Vec<_> = texts.iter().enumerate().flat_map(of).collect();
    selects.join(" UNION ALL ")
}

/// How many rows have what, spelled how.
type Counts = BTreeMap<(Spelling, KeyId), u64>;

fn count(row: &PgRow, counts: &mut [Counts]) -> Result<(), sqlx::Error> {
    let column = row.try_get::<i32, _>(0)?.unsigned_abs() as usize;
    let spelling = match row.try_get::<i32, _>(1)? {
        0 => Spelling::Base64,
        _ => Spelling::Hex,
    };
    let start: String = row.try_get(2)?;
    let rows: i64 = row.try_get(3)?;
    if let Some(key) = embedded::key(spelling, start.as_bytes()) {
        *counts[column].entry((spelling, key)).or_default() += rows.unsigned_abs();
    }
    Ok(())
}
