//! Counting the values of a column by the key their first bytes name.

use std::collections::BTreeMap;

use rekey_domain::{Found, KeyId, Range, TextEncoding};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection, sqlite::SqliteRow};

use super::{catalogue::Table, faults::Located, ranges, sql};
use crate::{CensusColumn, SourceError, value::format_byte};

/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;

/// The values of each column that are not NULL, by what they are.
///
/// In one read transaction where that stops nobody, which is in WAL mode. In the other journal
/// modes no application could commit until it ends, and a row that keeps its rowid is counted once
/// all the same.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    let journal = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection);
    let journal: String = journal.await.at(&table.place)?;
    if journal != "wal" {
        return ranges_of(connection, table, columns).await;
    }
    let mut transaction = connection.begin().await.at(&table.place)?;
    let counts = ranges_of(&mut transaction, table, columns).await?;
    transaction.commit().await.at(&table.place)?;
    Ok(counts)
}

/// Range by range, up to the greatest rowid at the start.
async fn ranges_of(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    let selects: Result<Vec<_>, _> = columns.iter().map(|column| select(table, column)).collect();
    let selects = selects?;
    let mut counts = vec![BTreeMap::new(); columns.len()];
    let end = ranges::end(connection, table).await?;
    let mut after = None;
    while let Some(end) = end {
        let range = ranges::next(connection, table, after, end, RANGE_ROWS).await?;
        let Some(range) = range else { break };
        for ((select, column), counts) in selects.iter().zip(columns).zip(&mut counts) {
            add(connection, table, select, column.encoding, range, counts).await?;
        }
        after = Some(range.last);
    }
    Ok(counts
        .into_iter()
        .map(|counts| counts.into_iter().collect())
        .collect())
}

async fn add(
    connection: &mut SqliteConnection,
    table: &Table,
    select: &str,
    encoding: TextEncoding,
    range: Range,
    counts: &mut BTreeMap<Found, u64>,
) -> Result<(), SourceError> {
    let rows = sqlx::query(AssertSqlSafe(select))
        .bind(range.first)
        .bind(range.last)
        .fetch_all(connection);
    for row in &rows.await.at(&table.place)? {
        let (found, values) = group(row, encoding).at(&table.place)?;
        *counts.entry(found).or_default() += values;
    }
    Ok(())
}

/// Groups by prefix only what starts like ciphertext: a column full of plaintext is one group.
///
/// SQLite sorts what it groups, with all columns that the expressions speak of: whole values. `LIMIT`
/// keeps it from drawing the inner statement into the outer, so that only starts are sorted.
fn select(table: &Table, column: &CensusColumn) -> Result<String, SourceError> {
    let encoding = column.encoding;
    let (rowid, from, value) = (table.rowid(), table.sql(), table.column(&column.name)?);
    let start = start_of_ciphertext(&value, encoding);
    Ok(format!(
        "SELECT start, count(*) FROM (SELECT {start} AS start \
         FROM {from} WHERE {rowid} BETWEEN ? AND ? AND {value} IS NOT NULL LIMIT -1) GROUP BY 1"
    ))
}

/// What tells a value's key; NULL for what does not start as ciphertext does.
pub(super) fn start_of_ciphertext(value: &str, encoding: TextEncoding) -> String {
    let (class, length) = (sql::storage_class(encoding), sql::prefix_length(encoding));
    let start = first_character(encoding);
    format!(
        "CASE WHEN typeof({value}) = '{class}' AND substr({value}, 1, 1) = {start} \
         THEN substr({value}, 1, {length}) END"
    )
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

pub(super) fn group(row: &SqliteRow, encoding: TextEncoding) -> Result<(Found, u64), sqlx::Error> {
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
