//! Reading a page of rows that still have to be moved.

use futures::TryStreamExt;
use rekey_domain::BindValue;
use sqlx::{
    AssertSqlSafe, Decode, Row, Sqlite, SqliteConnection, TypeInfo, ValueRef, sqlite::SqliteRow,
};

use super::{affinity::BindClass, catalogue::Table, faults::Located, sql};
use crate::{Page, ReadQuery, RowKey, SourceError, SourceRow, StoredValue};

/// Reads rows until their values reach `max_bytes`.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    table: &Table,
    query: &ReadQuery,
    after: Option<i64>,
    max_bytes: usize,
) -> Result<Page, SourceError> {
    table.check_part(&query.part)?;
    let mut page = Page::default();
    let Some(first) = first_rowid(query, after) else {
        return Ok(page);
    };
    for column in &query.columns {
        table.check_encoding(&column.name, column.encoding)?;
    }
    let classes = query.bind_columns.iter();
    let classes: Result<Vec<_>, _> = classes.map(|bind| table.bind_class(bind)).collect();
    let classes = classes?;
    let mut rows = sqlx::query(AssertSqlSafe(select(table, query)?))
        .bind(first)
        .bind(query.range.last)
        .fetch(connection);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await.at(&table.place)? {
        let (rowid, row) = source_row(&row, query, &classes).at(&table.place)?;
        bytes += row.size();
        page.rows.push(row);
        if bytes >= max_bytes {
            page.next = (rowid < query.range.last).then_some(rowid);
            break;
        }
    }
    Ok(page)
}

/// Where to start; None behind the last rowid there can be.
fn first_rowid(query: &ReadQuery, after: Option<i64>) -> Option<i64> {
    let Some(after) = after else {
        return Some(query.range.first);
    };
    Some(after.checked_add(1)?.max(query.range.first))
}

/// Rowid, bind columns, protected columns; the last NULL where settled, so that a large value that
/// stays where it is does not travel.
fn select(table: &Table, query: &ReadQuery) -> Result<String, SourceError> {
    let (rowid, from) = (table.rowid(), table.sql());
    let mut wanted = vec![rowid.clone()];
    for bind in &query.bind_columns {
        wanted.push(table.column(bind)?);
    }
    let mut unsettled = vec!["0".to_owned()];
    for column in &query.columns {
        let value = table.column(&column.name)?;
        let moves = sql::moves(&value, column.encoding, &column.settled);
        wanted.push(format!("CASE WHEN {moves} THEN {value} END"));
        unsettled.push(moves);
    }
    let (wanted, unsettled) = (wanted.join(", "), unsettled.join(" OR "));
    Ok(format!(
        "SELECT {wanted} FROM {from} WHERE {rowid} BETWEEN ? AND ? AND ({unsettled}) ORDER BY {rowid}"
    ))
}

fn source_row(
    row: &SqliteRow,
    query: &ReadQuery,
    classes: &[BindClass],
) -> Result<(i64, SourceRow), sqlx::Error> {
    let rowid = row.try_get(0)?;
    let (binds, values) = (classes.len(), query.columns.len());
    let bind = |(at, class): (usize, &BindClass)| {
        let value = bind_value(row, 1 + at)?;
        Ok(value.filter(|value| class.admits(value)))
    };
    let row = SourceRow {
        key: RowKey::RowId(rowid),
        name: None,
        binds_damaged: None,
        binds: classes
            .iter()
            .enumerate()
            .map(bind)
            .collect::<Result<_, sqlx::Error>>()?,
        values: (1 + binds..=binds + values)
            .map(|at| stored_value(row, at))
            .collect::<Result<_, _>>()?,
    };
    Ok((rowid, row))
}

fn bind_value(row: &SqliteRow, at: usize) -> Result<Option<BindValue>, sqlx::Error> {
    if row.try_get_raw(at)?.type_info().name() == "INTEGER" {
        return Ok(row.try_get::<Option<i64>, _>(at)?.map(BindValue::Integer));
    }
    Ok(match stored_value(row, at)? {
        Some(StoredValue::Bytes(bytes)) => Some(BindValue::Bytes(bytes)),
        Some(StoredValue::Text(text)) => Some(BindValue::Text(text)),
        Some(StoredValue::Other | StoredValue::Unreadable(_)) | None => None,
    })
}

/// The value by its own storage class, whatever the column is declared to be.
fn stored_value(row: &SqliteRow, at: usize) -> Result<Option<StoredValue>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    let class = value.type_info().name().to_owned();
    Ok(Some(match class.as_str() {
        "BLOB" => StoredValue::Bytes(row.try_get(at)?),
        // SQLite does not check that text is UTF-8; what is not cannot be base64 either.
        "TEXT" => {
            <String as Decode<Sqlite>>::decode(value).map_or(StoredValue::Other, StoredValue::Text)
        }
        _ => StoredValue::Other,
    }))
}
