//! What changes where a table's rows may have other rowids than before: a rebuild, or a `VACUUM`.

use sqlx::{Row, SqliteConnection};

use super::{faults::Located, pragma};
use crate::{SourceError, TableShape, place::Place};

/// The page where the table begins. A table that takes another's name begins elsewhere.
pub(super) async fn root(
    connection: &mut SqliteConnection,
    table: &str,
    place: &Place,
) -> Result<i64, SourceError> {
    let sql = "SELECT rootpage FROM main.sqlite_schema WHERE type = 'table' AND name = ?";
    let root = sqlx::query_scalar(sql)
        .bind(table)
        .fetch_optional(connection);
    // Virtual tables begin nowhere.
    Ok(root.await.at(place)?.flatten().unwrap_or_default())
}

/// The form of the table's one part. Where the rowid is a column of the table, rows keep it; elsewhere
/// `VACUUM` may give them others, and only the schema's version tells of one.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    table: &str,
    shape: &TableShape,
    place: &Place,
) -> Result<String, SourceError> {
    let root = &shape.known_by;
    if has_rowid_column(connection, table, shape, place).await? {
        return Ok(format!("rowid/{root}"));
    }
    let version = pragma::of_all(connection, "schema_version")
        .await
        .at(place)?;
    let version: i64 = version
        .first()
        .map_or(Ok(0), |row| row.try_get(0))
        .at(place)?;
    Ok(format!("rowid/{root}/{version}"))
}

/// Whether its primary key is another name of the rowid: `INTEGER`, and no index of its own.
async fn has_rowid_column(
    connection: &mut SqliteConnection,
    table: &str,
    shape: &TableShape,
    place: &Place,
) -> Result<bool, SourceError> {
    let [key] = &shape.primary_key[..] else {
        return Ok(false);
    };
    let declared = shape.column(key).map(|column| &column.declared_type);
    if !declared.is_some_and(|declared| declared.eq_ignore_ascii_case("INTEGER")) {
        return Ok(false);
    }
    let indexes = pragma::of(connection, "index_list", table).await;
    let origins: Result<Vec<String>, _> = indexes
        .at(place)?
        .iter()
        .map(|index| index.try_get("origin"))
        .collect();
    Ok(!origins.at(place)?.iter().any(|origin| origin == "pk"))
}
