//! The indexes that a new value of a column is written to.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{catalogue::Table, faults::Located, pragma};
use crate::SourceError;

/// In `index_xinfo`, an expression in place of a column's number.
const EXPRESSION: i64 = -2;

/// The indexes that the column is part of, or of whose expressions or condition it may be.
pub(super) async fn of_column(
    connection: &mut SqliteConnection,
    table: &Table,
    column: &str,
) -> Result<Vec<String>, SourceError> {
    let indexes = pragma::of(connection, "index_list", &table.name).await;
    let mut found = Vec::new();
    for index in indexes.at(&table.place)? {
        let name: String = index.try_get("name").at(&table.place)?;
        let partial: bool = index.try_get("partial").at(&table.place)?;
        let parts = pragma::of(connection, "index_xinfo", &name).await;
        let parts = parts.at(&table.place)?;
        let parts = parts.iter().map(|part| Part::of(part, column));
        let parts: Result<Vec<_>, sqlx::Error> = parts.collect();
        let parts = parts.at(&table.place)?;
        let computes = partial || parts.contains(&Part::Expression);
        if parts.contains(&Part::Column)
            || computes && is_named(connection, table, &name, column).await?
        {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The columns whose values are kept unique, alone or with others. Expressions and conditions may look at any column.
pub(super) async fn unique(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<Vec<String>, SourceError> {
    let indexes = pragma::of(connection, "index_list", &table.name).await;
    let mut found = Vec::new();
    for index in indexes.at(&table.place)? {
        if !index.try_get::<bool, _>("unique").at(&table.place)? {
            continue;
        }
        let name: String = index.try_get("name").at(&table.place)?;
        let partial: bool = index.try_get("partial").at(&table.place)?;
        let parts = pragma::of(connection, "index_xinfo", &name).await;
        for part in parts.at(&table.place)? {
            let number: i64 = part.try_get("cid").at(&table.place)?;
            if partial || number == EXPRESSION {
                let all = table.shape.columns.iter();
                return Ok(all.map(|column| column.name.clone()).collect());
            }
            let column: Option<String> = part.try_get("name").at(&table.place)?;
            let is_key: bool = part.try_get("key").at(&table.place)?;
            found.extend(column.filter(|_| is_key));
        }
    }
    Ok(found)
}

/// What a part of an index is to a column.
#[derive(PartialEq)]
enum Part {
    Column,
    Expression,
    Other,
}

impl Part {
    fn of(row: &SqliteRow, column: &str) -> Result<Self, sqlx::Error> {
        let name: Option<String> = row.try_get("name")?;
        let is_column = name.is_some_and(|name| name.eq_ignore_ascii_case(column));
        Ok(match row.try_get::<i64, _>("cid")? {
            EXPRESSION => Self::Expression,
            _ if is_column && row.try_get("key")? => Self::Column,
            _ => Self::Other,
        })
    }
}

/// Whether the words that made an index have the column's name in them.
async fn is_named(
    connection: &mut SqliteConnection,
    table: &Table,
    index: &str,
    column: &str,
) -> Result<bool, SourceError> {
    let sql = "SELECT instr(lower(sql), lower(?)) > 0 FROM main.sqlite_schema \
               WHERE type = 'index' AND name = ? AND sql IS NOT NULL";
    let named = sqlx::query_scalar(sql).bind(column).bind(index);
    let named = named.fetch_optional(connection).await;
    Ok(named.at(&table.place)?.unwrap_or_default())
}
