//! The identity of a table: where it begins in the file, and a hash of the schema.

use sha2::{Digest, Sha256};
use sqlx::SqliteConnection;

use super::{faults::Located, pragma};
use crate::{SourceError, place::Place};

/// How much of a hash tells one schema from another, in bytes.
const HASH_LEN: usize = 8;

/// SQLite reuses pages and places, also in a `VACUUM`, so both identify a column only while the schema stays the same.
/// SQLite counts schema changes, but anyone may set that number, so the schema is hashed too.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    table: &str,
    place: &Place,
) -> Result<String, SourceError> {
    let root = root(connection, table, place).await?;
    let version = pragma::number(connection, "schema_version").await;
    let version = version.at(place)?;
    let schema = "SELECT CAST(rowid || quote(type) || quote(name) || quote(tbl_name) || quote(rootpage) \
                  || quote(sql) AS BLOB) FROM main.sqlite_schema ORDER BY rowid";
    let entries = sqlx::query_scalar(schema).fetch_all(connection);
    let entries: Vec<Vec<u8>> = entries.await.at(place)?;
    let hash = Sha256::digest(entries.concat());
    let hash = hex::encode(&hash[..HASH_LEN]);
    Ok(format!("{root}/{version}/{hash}"))
}

/// The page where the table begins; virtual tables begin nowhere.
async fn root(
    connection: &mut SqliteConnection,
    table: &str,
    place: &Place,
) -> Result<i64, SourceError> {
    let sql = "SELECT rootpage FROM main.sqlite_schema WHERE type = 'table' AND name = ?";
    let root = sqlx::query_scalar(sql)
        .bind(table)
        .fetch_optional(connection);
    Ok(root.await.at(place)?.flatten().unwrap_or_default())
}
