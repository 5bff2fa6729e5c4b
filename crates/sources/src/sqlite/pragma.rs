//! What SQLite says of the schema. A pragma is a statement: as a function, `pragma_table_list`, it is a
//! name that a table in the file takes first, and whoever may create one would say what is in the others.

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::sql::quote;

/// The rows of a pragma about one name: a table's, or an index's.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    pragma: &'static str,
    name: &str,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let sql = format!("PRAGMA main.{pragma}({})", quote(name));
    ask(connection, sql).await
}

/// The rows of a pragma about the whole file.
pub(super) async fn of_all(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    ask(connection, format!("PRAGMA main.{pragma}")).await
}

/// The number that a pragma is.
pub(super) async fn number(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<i64, sqlx::Error> {
    let rows = of_all(connection, pragma).await?;
    rows.first().map_or(Ok(0), |row| row.try_get(0))
}

/// Has the connection read the schema from the file: it keeps one for as long as the number of it is the same,
/// which anyone can set.
pub(super) async fn read_schema(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let reset = sqlx::query("PRAGMA writable_schema = RESET");
    reset.execute(connection).await.map(drop)
}

/// Not kept: there is a statement for each name.
async fn ask(
    connection: &mut SqliteConnection,
    sql: String,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let statement = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    statement.fetch_all(connection).await
}
