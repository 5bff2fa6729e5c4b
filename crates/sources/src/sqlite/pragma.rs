//! What SQLite says of the schema. Pragmas are run as statements: as a function, such as `pragma_table_list`, a table
//! of that name in the file would come first, and whoever may create one could lie about the others.

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

/// Makes the connection read the schema from the file. Otherwise it keeps the schema until the file's schema number
/// changes, and anyone can set that number.
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
