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

/// Whether a constraint of the table says what is done in a conflict. Only the words that made the table can say it.
pub(super) async fn may_replace(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<bool, SourceError> {
    let sql = "SELECT instr(upper(sql), 'CONFLICT') > 0 FROM main.sqlite_schema WHERE type = 'table' AND name = ?";
    let said = sqlx::query_scalar(sql).bind(&table.name);
    let said: Option<bool> = said.fetch_optional(connection).await.at(&table.place)?;
    Ok(said.unwrap_or(true))
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
