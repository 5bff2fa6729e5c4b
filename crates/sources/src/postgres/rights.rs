//! Whether our role may do what a table is there for, by the catalogue.

use rekey_domain::Triggers;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{
    catalogue::Table,
    faults::Located,
    grants::{GRANT_SUPPRESS, grants},
    names::Name,
    parts::{TREE, refuse_row_security},
};
use crate::{SourceError, TableRights, place::Place};

/// # Errors
/// [`SourceError::NotAllowed`] says which statements its owner has to run.
pub(super) async fn check(
    connection: &mut PgConnection,
    table: &Table,
    needed: &TableRights,
) -> Result<(), SourceError> {
    let [read, written] = [named(table, &needed.read)?, named(table, &needed.written)?];
    refuse_row_security(connection, table).await?;
    let lacking = lacking(connection, table, &read, &written).await?;
    if let [(part, role), ..] = &lacking[..] {
        let parts: Vec<_> = lacking.iter().map(|(name, _)| name.clone()).collect();
        let statements = grants(role, &parts, &read, &written).join("; ");
        return Err(SourceError::NotAllowed {
            database: table.place.database.to_string(),
            relation: part.clone(),
            what: if written.is_empty() {
                "read"
            } else {
                "read and write"
            },
            remedy: format!("have its owner run {statements}"),
        });
    }
    if !written.is_empty() {
        takes_writes(connection, &table.place).await?;
    }
    if needed.triggers == Triggers::Suppress && !written.is_empty() {
        may_suppress(connection, table).await?;
    }
    Ok(())
}

/// The columns as the catalogue calls them.
fn named(table: &Table, columns: &[String]) -> Result<Vec<String>, SourceError> {
    let named = columns
        .iter()
        .map(|column| Ok(table.shape_of(column)?.name.clone()));
    named.collect()
}

/// The heaps where a right is missing, each with our role.
async fn lacking(
    connection: &mut PgConnection,
    table: &Table,
    read: &[String],
    written: &[String],
) -> Result<Vec<(String, String)>, SourceError> {
    let sql = format!(
        "{TREE}, needed (name, privilege) AS (SELECT pg_catalog.unnest($2::text[]), 'SELECT' \
         UNION ALL SELECT 'ctid', 'SELECT' UNION ALL SELECT pg_catalog.unnest($3::text[]), 'UPDATE') \
         SELECT n.nspname::text, c.relname::text, current_user::text \
         FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR EXISTS ( \
             SELECT FROM needed WHERE NOT pg_catalog.has_column_privilege(c.oid, name, privilege))) \
         ORDER BY 1, 2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(table.oid)
        .bind(read)
        .bind(written)
        .fetch_all(connection);
    let rows = rows.await.at(&table.place)?;
    let found: Result<Vec<_>, sqlx::Error> = rows.iter().map(part_and_role).collect();
    found.at(&table.place)
}

fn part_and_role(row: &PgRow) -> Result<(String, String), sqlx::Error> {
    let name = Name {
        schema: Some(row.try_get(0)?),
        table: row.try_get(1)?,
    };
    Ok((name.sql(), row.try_get(2)?))
}

/// A standby takes no writes, nor does a server, database or role whose transactions are read-only. Our own sessions
/// are read-only too, by our settings, so this asks for the value that a session starts with.
pub(super) async fn takes_writes(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<(), SourceError> {
    let asked = "SELECT pg_catalog.pg_is_in_recovery() \
        OR (SELECT s.reset_val OPERATOR(pg_catalog.=) 'on' FROM pg_catalog.pg_settings AS s \
            WHERE s.name OPERATOR(pg_catalog.=) 'default_transaction_read_only')";
    let reads_only: bool = sqlx::query_scalar(asked)
        .fetch_one(connection)
        .await
        .at(place)?;
    match reads_only {
        true => Err(SourceError::Standby {
            database: place.database.to_string(),
        }),
        false => Ok(()),
    }
}

/// Before PostgreSQL 15 there is no such right, and only superusers may.
async fn may_suppress(connection: &mut PgConnection, table: &Table) -> Result<(), SourceError> {
    let version = "SELECT pg_catalog.current_setting('server_version_num')::int4";
    let version = sqlx::query_scalar(version).fetch_one(&mut *connection);
    let version: i32 = version.await.at(&table.place)?;
    let asked = if version < 150_000 {
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    } else {
        "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"
    };
    let may = sqlx::query_scalar(asked).fetch_one(connection);
    if may.await.at(&table.place)? {
        return Ok(());
    }
    Err(may_not_suppress(&table.place))
}

pub(super) fn may_not_suppress(place: &Place) -> SourceError {
    SourceError::NotAllowed {
        database: place.database.to_string(),
        relation: place.relation.clone(),
        what: "suppress the triggers of",
        remedy: format!(
            "it takes a right of its own: {GRANT_SUPPRESS} our role (PostgreSQL 15 or later; \
             rds_superuser on RDS), or on_update = {{ triggers = \"fire\" }}"
        ),
    }
}
