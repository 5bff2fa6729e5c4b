//! Rows as they come back: place, what people know them by, bind values, protected values.

use rekey_domain::BindValue;
use sqlx::{Decode, Postgres, Row, TypeInfo, ValueRef, postgres::PgRow};

use super::{catalogue::Table, faults::Located, names::quote, tuple::TupleId};
use crate::{ReadQuery, RowKey, SourceError, SourceRow, StoredValue};

/// What the running sum of the values' bytes is called.
pub(super) const BYTES_READ: &str = "bytes_read";
/// A part of a row's name is cut behind this many characters, and then its place stands there too.
const NAME_LENGTH: usize = 80;

/// What is read beside the protected columns: the primary key for people, then the bind columns.
pub(super) fn names_and_binds(
    table: &Table,
    query: &ReadQuery,
) -> Result<Vec<String>, SourceError> {
    let longer = NAME_LENGTH + 1;
    let name = |name: &String| format!("left(t.{}::text, {longer})", quote(name));
    let mut wanted: Vec<String> = table.shape.primary_key.iter().map(name).collect();
    for bind in &query.bind_columns {
        let column = table.shape_of(bind)?;
        wanted.push(if column.can_bind {
            format!("t.{}", quote(&column.name))
        } else {
            "NULL::text".to_owned()
        });
    }
    Ok(wanted)
}

pub(super) fn source_row(
    row: &PgRow,
    table: &Table,
    query: &ReadQuery,
) -> Result<SourceRow, SourceError> {
    read(row, table, query).at(&table.place)
}

fn read(row: &PgRow, table: &Table, query: &ReadQuery) -> Result<SourceRow, sqlx::Error> {
    let place: String = row.try_get(0)?;
    let place = TupleId::parse(&place);
    let place = place.ok_or_else(|| sqlx::Error::Protocol("no place of a row".to_owned()))?;
    let names = &table.shape.primary_key;
    let binds = 1 + names.len();
    let values = binds + query.bind_columns.len();
    let bind = |at| bind_value(row, at);
    let value = |at| stored_value(row, at);
    Ok(SourceRow {
        key: RowKey::Tuple {
            block: place.block,
            offset: place.offset,
            name: name(row, names, place)?,
        },
        binds: (binds..values).map(bind).collect::<Result<_, _>>()?,
        values: (values..values + query.columns.len())
            .map(value)
            .collect::<Result<_, _>>()?,
    })
}

/// `id=42`, `tenant=3,uuid=…`; the place where there is no primary key.
fn name(row: &PgRow, names: &[String], place: TupleId) -> Result<String, sqlx::Error> {
    if names.is_empty() {
        return Ok(format!("ctid {place}"));
    }
    let mut whole = true;
    let mut parts = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let mut value = text(row, 1 + at)?.unwrap_or_default();
        if let Some((end, _)) = value.char_indices().nth(NAME_LENGTH) {
            value.truncate(end);
            value.push('…');
            whole = false;
        }
        parts.push(format!("{name}={value}"));
    }
    let name = parts.join(",");
    // Two names that were cut may look alike.
    Ok(if whole {
        name
    } else {
        format!("{name} at {place}")
    })
}

fn bind_value(row: &PgRow, at: usize) -> Result<Option<BindValue>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    let kind = value.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INT2" => Some(BindValue::Integer(row.try_get::<i16, _>(at)?.into())),
        "INT4" => Some(BindValue::Integer(row.try_get::<i32, _>(at)?.into())),
        "INT8" => Some(BindValue::Integer(row.try_get(at)?)),
        "UUID" => {
            let bytes = row
                .try_get_raw(at)?
                .as_bytes()
                .map_err(sqlx::Error::Decode)?;
            bytes.try_into().ok().map(BindValue::Uuid)
        }
        "BYTEA" => Some(BindValue::Bytes(row.try_get(at)?)),
        _ => text(row, at)?.map(BindValue::Text),
    })
}

fn stored_value(row: &PgRow, at: usize) -> Result<Option<StoredValue>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    if value.type_info().name() == "BYTEA" {
        return Ok(Some(StoredValue::Bytes(row.try_get(at)?)));
    }
    let text = text(row, at)?;
    Ok(Some(text.map_or(StoredValue::Other, StoredValue::Text)))
}

/// Text, if it is UTF-8: a database in SQL_ASCII checks nothing.
pub(super) fn text(row: &PgRow, at: usize) -> Result<Option<String>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    Ok(<String as Decode<Postgres>>::decode(value).ok())
}
