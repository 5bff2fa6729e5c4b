//! The columns of a table: what they are called, and what they can hold for us.

use rekey_domain::{BindType, TextEncoding};
use sqlx::{
    PgConnection, Row,
    postgres::{PgRow, types::Oid},
};

use super::faults::Located;
use crate::{ColumnShape, SourceError, place::Place};

// Types that a value of ours is stored in or bound to, by the numbers PostgreSQL gave them.
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const CHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const UUID: u32 = 2950;

/// Domains are looked through to the type that they are made of.
const COLUMNS: &str = "WITH RECURSIVE base (attnum, oid, kind, next, modifier, next_modifier) AS ( \
     SELECT a.attnum, t.oid, t.typtype, t.typbasetype, a.atttypmod, t.typtypmod FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
     UNION ALL SELECT b.attnum, t.oid, t.typtype, t.typbasetype, b.next_modifier, t.typtypmod \
     FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.next WHERE b.kind = 'd') \
 SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     a.attgenerated <> '', b.oid, \
     CASE WHEN k.place < i.indnkeyatts THEN k.place END, b.modifier, a.attnum::int8 \
 FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum AND b.kind <> 'd' \
 LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
 LEFT JOIN LATERAL (SELECT pg_catalog.array_position(i.indkey::int2[], a.attnum) AS place) k ON true \
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// The columns of the primary key, in its order, and all columns, in theirs.
pub(super) async fn of(
    connection: &mut PgConnection,
    table: Oid,
    place: &Place,
) -> Result<(Vec<String>, Vec<ColumnShape>), SourceError> {
    let rows = sqlx::query(COLUMNS).bind(table).fetch_all(connection);
    let rows = rows.await.at(place)?;
    let columns: Result<Vec<_>, sqlx::Error> = rows.iter().map(column).collect();
    Ok((primary_key(&rows).at(place)?, columns.at(place)?))
}

fn column(row: &PgRow) -> Result<ColumnShape, sqlx::Error> {
    // What PostgreSQL computes can be neither written nor known before the insert.
    let plain = !row.try_get::<bool, _>(3)?;
    let Oid(base) = row.try_get(4)?;
    let encoding = match base {
        BYTEA => Some(TextEncoding::Binary),
        TEXT | VARCHAR => Some(TextEncoding::Base64),
        _ => None,
    };
    let bind_type = bind_type(base, row.try_get(6)?);
    Ok(ColumnShape {
        name: row.try_get(0)?,
        number: row.try_get(7)?,
        declared_type: row.try_get(1)?,
        not_null: row.try_get(2)?,
        encoding: encoding.filter(|_| plain),
        bind_type: bind_type.filter(|_| plain),
    })
}

/// The length of a `char` or `varchar` is in its modifier, with the four bytes of a header; it may have none.
fn bind_type(base: u32, modifier: i32) -> Option<BindType> {
    const HEADER: i32 = 4;
    let length = u32::try_from(modifier - HEADER).ok();
    Some(match base {
        INT2 => BindType::Int2,
        INT4 => BindType::Int4,
        INT8 => BindType::Int8,
        UUID => BindType::Uuid,
        BYTEA => BindType::Bytes,
        CHAR => length.map_or(BindType::Text, BindType::Char),
        VARCHAR => length.map_or(BindType::Text, BindType::Varchar),
        TEXT => BindType::Text,
        _ => return None,
    })
}

fn primary_key(rows: &[PgRow]) -> Result<Vec<String>, sqlx::Error> {
    let place_and_name = |row: &PgRow| Ok((row.try_get::<Option<i32>, _>(5)?, row.try_get(0)?));
    let columns: Result<Vec<(Option<i32>, String)>, sqlx::Error> =
        rows.iter().map(place_and_name).collect();
    let mut columns = columns?;
    columns.retain(|(place, _)| place.is_some());
    columns.sort_unstable();
    Ok(columns.into_iter().map(|(_, name)| name).collect())
}
