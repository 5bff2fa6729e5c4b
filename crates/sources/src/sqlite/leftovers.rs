//! Values below the target, one by one, in the census's own view: is each one that the pass had to leave?

use futures::TryStreamExt;
use rekey_domain::{Found, KeyId, PartId, TextEncoding};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, ValueRef, sqlite::SqliteRow};

use super::{catalogue::Table, faults::Located, sql};
use crate::{CensusColumn, RowKey, SourceError, ValueId, census::Counting, start::Start};

/// Looks until the first straggler.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
    settled: &[KeyId],
    counting: &mut Counting<'_>,
) -> Result<(), SourceError> {
    let select = select(table, columns, settled)?;
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(connection);
    while let Some(row) = rows.try_next().await.at(&table.place)? {
        if !look_at(&row, &table.part, columns, counting).at(&table.place)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Of each value: NULL where it is settled or NULL, 0 where it is no ciphertext, else its start.
fn select(
    table: &Table,
    columns: &[CensusColumn],
    settled: &[KeyId],
) -> Result<String, SourceError> {
    let (rowid, from) = (table.rowid(), table.sql());
    let (mut wanted, mut unsettled) = (vec![rowid], vec!["0".to_owned()]);
    for column in columns {
        let value = table.column(&column.name)?;
        let moves = sql::moves(&value, column.encoding, settled);
        let ours = sql::is_ciphertext(&value, column.encoding);
        let length = sql::start_length(column.encoding);
        let start = format!("CASE WHEN {ours} THEN substr({value}, 1, {length}) ELSE 0 END");
        wanted.push(format!("CASE WHEN {moves} THEN {start} END"));
        unsettled.push(moves);
    }
    let (wanted, unsettled) = (wanted.join(", "), unsettled.join(" OR "));
    Ok(format!("SELECT {wanted} FROM {from} WHERE {unsettled}"))
}

fn look_at(
    row: &SqliteRow,
    part: &PartId,
    columns: &[CensusColumn],
    counting: &mut Counting<'_>,
) -> Result<bool, sqlx::Error> {
    let key = RowKey::RowId(row.try_get(0)?);
    for (at, column) in columns.iter().enumerate() {
        if row.try_get_raw(at + 1)?.is_null() {
            continue;
        }
        let start = match column.encoding {
            TextEncoding::Binary => row.try_get(at + 1).ok().and_then(Start::of_bytes),
            TextEncoding::Base64 => row.try_get(at + 1).ok().and_then(Start::of_text),
        };
        let found = start.as_ref();
        let found = found.map_or(Found::NotCiphertext, |found| Found::Key(found.key()));
        if !counting.look(at, found, &ValueId::new(part, key, start.as_ref())) {
            return Ok(false);
        }
    }
    Ok(true)
}
