//! Whether the file may be written: SQLite has no other rights.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{catalogue::Table, faults::Located};
use crate::{SourceError, TableRights};

/// Whoever holds the lock for longer says nothing of our rights.
const WAIT: Duration = Duration::from_millis(500);

/// # Errors
/// [`SourceError::ReadOnly`]; [`SourceError::NoSuchColumn`].
pub(super) async fn check(
    connection: &mut SqliteConnection,
    table: &Table,
    needed: &TableRights,
) -> Result<(), SourceError> {
    for column in &needed.read {
        table.column(column)?;
    }
    let Some(column) = needed.written.first() else {
        return Ok(());
    };
    let (relation, column) = (table.sql(), table.bare_column(column)?);
    let sql = format!("UPDATE {relation} SET {column} = {column} WHERE 0");
    let tried = async {
        let mut transaction = connection.begin().await?;
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
        transaction.rollback().await
    };
    match tokio::time::timeout(WAIT, tried).await {
        Ok(tried) => match tried.at(&table.place) {
            Err(SourceError::Busy { .. }) => Ok(()),
            tried => tried,
        },
        Err(_) => Ok(()),
    }
}
