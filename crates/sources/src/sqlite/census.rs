//! Counting the values of a column by the key their first bytes name.

use std::collections::BTreeMap;

use rekey_domain::{Found, KeyId, Range, TextEncoding};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{catalogue::Table, faults::Located, sql};
use crate::{SourceError, value::format_byte};

/// The values in the range that are not NULL, by what they are.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    table: &Table,
    column: &str,
    encoding: TextEncoding,
    range: Range,
) -> Result<Vec<(Found, u64)>, SourceError> {
    let rows = sqlx::query(AssertSqlSafe(select(table, column, encoding)?))
        .bind(range.first)
        .bind(range.last)
        .fetch_all(connection);
    let rows = rows.await.at(&table.place)?;
    let mut counts = BTreeMap::new();
    for row in &rows {
        let (found, values) = group(row, encoding).at(&table.place)?;
        *counts.entry(found).or_default() += values;
    }
    Ok(counts.into_iter().collect())
}

/// Groups by prefix only what starts like ciphertext: a column full of plaintext is one group.
fn select(table: &Table, column: &str, encoding: TextEncoding) -> Result<String, SourceError> {
    let (rowid, from, value) = (table.rowid(), table.sql(), table.column(column)?);
    let (class, length) = (sql::storage_class(encoding), sql::prefix_length(encoding));
    let start = first_character(encoding);
    Ok(format!(
        "SELECT CASE WHEN typeof({value}) = '{class}' AND substr({value}, 1, 1) = {start} \
         THEN substr({value}, 1, {length}) END, count(*) \
         FROM {from} WHERE {rowid} BETWEEN ? AND ? AND {value} IS NOT NULL GROUP BY 1"
    ))
}

/// What every ciphertext starts with, as a literal.
fn first_character(encoding: TextEncoding) -> String {
    match encoding {
        TextEncoding::Binary => format!("x'{:02x}'", format_byte()),
        TextEncoding::Base64 => {
            let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
            format!("'{}'", &prefix[..1])
        }
    }
}

fn group(row: &SqliteRow, encoding: TextEncoding) -> Result<(Found, u64), sqlx::Error> {
    let key = match encoding {
        TextEncoding::Binary => row.try_get::<Option<Vec<u8>>, _>(0)?.and_then(key_of_bytes),
        TextEncoding::Base64 => key_of_text(row)?,
    };
    let values: i64 = row.try_get(1)?;
    let found = key.map_or(Found::NotCiphertext, Found::Key);
    Ok((found, values.unsigned_abs()))
}

/// The key whose prefix this is; None if it is shorter than one.
fn key_of_bytes(start: Vec<u8>) -> Option<KeyId> {
    let start: [u8; rekey_envelope::PREFIX_LEN] = start.try_into().ok()?;
    let [_, id @ ..] = start;
    Some(KeyId::new(u32::from_be_bytes(id)))
}

/// Text that is not UTF-8 is no base64.
fn key_of_text(row: &SqliteRow) -> Result<Option<KeyId>, sqlx::Error> {
    let prefix = match row.try_get::<Option<String>, _>(0) {
        Err(sqlx::Error::ColumnDecode { .. }) => None,
        prefix => prefix?,
    };
    Ok(prefix.and_then(|prefix| rekey_envelope::key_id_of_text_prefix(&prefix)))
}
