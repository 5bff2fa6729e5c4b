//! Rows as they come back: place, what people know them by, bind values, protected values.

use std::ops::Range;

use rekey_domain::{BindValue, TextEncoding};
use sqlx::{Decode, Postgres, Row, TypeInfo, ValueRef, postgres::PgRow};

#[cfg(doc)]
use super::sql;
use super::{catalogue::Table, faults::Located, names::quote, tuple::TupleId};
use crate::{ReadQuery, SourceError, SourceRow, StoredValue, place::Place, start::Start};

/// What the running sum of the values' bytes is called.
pub(super) const BYTES_READ: &str = "bytes_read";
/// A part of a row's name is cut behind this many characters; its place tells it from others.
const NAME_LENGTH: usize = 80;

/// What is read beside the protected columns: the primary key for people, then the bind columns.
pub(super) fn names_and_binds(
    table: &Table,
    query: &ReadQuery,
) -> Result<Vec<String>, SourceError> {
    let longer = NAME_LENGTH + 1;
    // By its type's own output: a cast may be somebody's code.
    let name = |name: &String| {
        let declared = table
            .shape
            .column(name)
            .map(|column| column.declared_type.as_str());
        let padded = declared.is_some_and(|declared| declared.starts_with("character("));
        let name = quote(name);
        match padded {
            true => format!("pg_catalog.left(t.{name}::pg_catalog.text, {longer})"),
            false => format!("pg_catalog.left(pg_catalog.format('%s', t.{name}), {longer})"),
        }
    };
    let names = table.shape.primary_key.iter();
    let names = names.filter(|column| among_binds(table, query, column).is_none());
    let mut wanted: Vec<String> = names.map(name).collect();
    for bind in &query.bind_columns {
        let column = table.shape_of(bind)?;
        wanted.push(if column.can_bind() {
            format!("t.{}", quote(&column.name))
        } else {
            "NULL::pg_catalog.text".to_owned()
        });
    }
    Ok(wanted)
}

/// The index among the bind columns of a primary key column that is a whole number: people see it as it is, so it need
/// not be read twice.
fn among_binds(table: &Table, query: &ReadQuery, name: &str) -> Option<usize> {
    let column = table.shape.column(name)?;
    let whole = ["smallint", "integer", "bigint"].contains(&column.declared_type.as_str());
    let mut binds = query.bind_columns.iter();
    binds
        .position(|bind| bind == name)
        .filter(|_| whole && column.can_bind())
}

/// Where in what is read each thing stands.
pub(super) struct Layout<'a> {
    place: &'a Place,
    /// Columns of the primary key, and which of them are read among the bind columns.
    names: Vec<(&'a str, Option<usize>)>,
    binds: Range<usize>,
    values: Range<usize>,
}

impl<'a> Layout<'a> {
    /// The layout of what [`names_and_binds`] asks for, with the protected columns behind it.
    pub(super) fn of(table: &'a Table, query: &ReadQuery) -> Self {
        let names = table.shape.primary_key.iter();
        let names: Vec<_> = names
            .map(|name| (name.as_str(), among_binds(table, query, name)))
            .collect();
        let binds = 1 + names.iter().filter(|(_, bind)| bind.is_none()).count();
        let values = binds + query.bind_columns.len();
        Self {
            place: &table.place,
            names,
            binds: binds..values,
            values: values..values + query.columns.len(),
        }
    }

    pub(super) fn row(&self, row: &PgRow) -> Result<SourceRow, SourceError> {
        self.read(row).at(self.place)
    }

    fn read(&self, row: &PgRow) -> Result<SourceRow, sqlx::Error> {
        let place = TupleId::read(row, 0)?;
        let binds = self.binds.clone().map(|at| bind_value(row, at));
        let binds: Vec<Option<BindValue>> = binds.collect::<Result<_, _>>()?;
        let values = self.values.clone().map(|at| stored_value(row, at));
        Ok(SourceRow {
            key: place.key(),
            name: name(row, &self.names, &binds)?,
            binds_damaged: None,
            binds,
            values: values.collect::<Result<_, _>>()?,
        })
    }
}

/// `id=42`, `tenant=3,uuid=…`; None where there is no primary key.
fn name(
    row: &PgRow,
    names: &[(&str, Option<usize>)],
    binds: &[Option<BindValue>],
) -> Result<Option<String>, sqlx::Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let (mut at, mut all) = (1, String::new());
    for (name, bind) in names {
        let comma = if all.is_empty() { "" } else { "," };
        all.extend([comma, name, "="]);
        if let Some(bind) = bind {
            if let Some(BindValue::Integer(number)) = &binds[*bind] {
                all.push_str(&number.to_string());
            }
            continue;
        }
        let value = text(row, at)?.unwrap_or_default();
        at += 1;
        let end = value.char_indices().nth(NAME_LENGTH).map(|(end, _)| end);
        all.push_str(&value[..end.unwrap_or(value.len())]);
        if end.is_some() {
            all.push('…');
        }
    }
    Ok(Some(all))
}

fn bind_value(row: &PgRow, at: usize) -> Result<Option<BindValue>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    let kind = value.type_info();
    Ok(match kind.name() {
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
        _ => text(row, at)?.map(|text| BindValue::Text(text.to_owned())),
    })
}

pub(super) fn stored_value(row: &PgRow, at: usize) -> Result<Option<StoredValue>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    if value.type_info().name() == "BYTEA" {
        return Ok(Some(StoredValue::Bytes(row.try_get(at)?)));
    }
    let text = text(row, at)?;
    Ok(Some(text.map_or(StoredValue::Other, |text| {
        StoredValue::Text(text.to_owned())
    })))
}

/// What [`sql::start_of_ciphertext`] gives; None: no ciphertext.
pub(super) fn start(
    row: &PgRow,
    at: usize,
    encoding: TextEncoding,
) -> Result<Option<Start>, sqlx::Error> {
    Ok(match encoding {
        TextEncoding::Binary => Start::of_bytes(row.try_get(at)?),
        TextEncoding::Base64 => text(row, at)?.and_then(Start::of_text),
    })
}

/// Text, if it is UTF-8: a database in SQL_ASCII checks nothing.
pub(super) fn text(row: &PgRow, at: usize) -> Result<Option<&str>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    Ok(<&str as Decode<Postgres>>::decode(value).ok())
}
