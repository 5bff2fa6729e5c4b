//! Whether our role at a PostgreSQL store may do what it is there for. A SQLite store has no roles.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::StoreError;

/// A privilege on a table of the store, or on some of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The table.
    pub table: &'static str,
    /// `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub privilege: &'static str,
    /// The columns; empty: the table.
    pub columns: Vec<&'static str>,
}

/// The schema where the store is; none on SQLite.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn schema(db: &impl ConnectionTrait) -> Result<Option<String>, StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let sql = "SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.oid = pg_catalog.to_regclass('deployment')), pg_catalog.current_schema(), 'public')::text AS schema";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
    let row = row.await?.map(|row| row.try_get("", "schema"));
    Ok(row.transpose()?)
}

/// Sees that our role has these rights, with one question.
///
/// # Errors
/// [`StoreError::Denied`] with the SQL that gives the first missing one; otherwise of the database.
pub async fn check(db: &impl ConnectionTrait, rights: &[Right]) -> Result<(), StoreError> {
    if rights.is_empty() || db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let statement = Statement::from_string(DbBackend::Postgres, lacking(rights));
    let rows = db.query_all_raw(statement).await?;
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let first: String = first.try_get("", "remedy")?;
    let more = match rows.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(StoreError::Denied(format!(
        "our role lacks a right: {first}{more}"
    )))
}

/// Whether a role, whoever it is, has a right. None where there is no such role, or on SQLite.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn has(
    db: &impl ConnectionTrait,
    role: &str,
    right: &Right,
) -> Result<Option<bool>, StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let Right {
        table,
        privilege,
        columns,
    } = right;
    let relation = format!("to_regclass(quote_ident('{table}'))");
    let each: Vec<_> = match columns.is_empty() {
        true => vec![format!(
            "has_table_privilege(oid, {relation}, '{privilege}')"
        )],
        false => columns
            .iter()
            .map(|column| {
                format!("has_column_privilege(oid, {relation}, '{column}', '{privilege}')")
            })
            .collect(),
    };
    let sql = format!(
        "SELECT {} AS has FROM pg_roles WHERE rolname = $1",
        each.join(" AND ")
    );
    let asked = Statement::from_sql_and_values(DbBackend::Postgres, sql, [role.into()]);
    let found = db.query_one_raw(asked).await?;
    Ok(found.map(|row| row.try_get("", "has")).transpose()?)
}

/// What is missing, each with what gives it. The names are ours, none needs quoting.
fn lacking(rights: &[Right]) -> String {
    let needed = |right: &Right| {
        let Right {
            table,
            privilege,
            columns,
        } = right;
        let of_columns: Vec<_> = columns
            .iter()
            .map(|column| format!("('{table}', '{privilege}', '{column}')"))
            .collect();
        match of_columns.is_empty() {
            true => format!("('{table}', '{privilege}', NULL)"),
            false => of_columns.join(", "),
        }
    };
    let needed: Vec<_> = rights.iter().map(needed).collect();
    format!(
        "SELECT CASE WHEN relation IS NULL \
             THEN pg_catalog.format('GRANT USAGE ON SCHEMA (the store''s) TO %I', current_user) \
             ELSE pg_catalog.format('GRANT %s%s ON %s TO %I', privilege, ' (' || name || ')', relation, current_user) \
         END AS remedy \
         FROM (VALUES {}) AS needed (relation_name, privilege, name) \
         CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(relation_name)) AS relation) found \
         WHERE CASE WHEN relation IS NULL THEN true \
             WHEN name IS NULL THEN NOT pg_catalog.has_table_privilege(relation, privilege) \
             ELSE NOT pg_catalog.has_column_privilege(relation, name, privilege) END",
        needed.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::test_store::{Kind, TestStore};

    const READS: Right = Right {
        table: "rotation",
        privilege: "SELECT",
        columns: Vec::new(),
    };

    #[tokio::test]
    async fn an_owner_lacks_nothing_and_a_file_has_no_roles() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            check(store.db(), &[READS]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_said_as_the_sql_that_gives_it() {
        let store = TestStore::new(Kind::Postgres).await;
        let resends = Right {
            privilege: "UPDATE",
            columns: vec!["state", "resend_at"],
            ..READS
        };
        let unit = store.unit().await;
        for sql in [
            "CREATE ROLE rekey_test_rights",
            "GRANT USAGE ON SCHEMA public TO rekey_test_rights",
            "GRANT SELECT, UPDATE (state) ON rotation TO rekey_test_rights",
            "SET LOCAL ROLE rekey_test_rights",
        ] {
            unit.db().execute_unprepared(sql).await.unwrap();
        }
        check(unit.db(), &[READS]).await.unwrap();
        let lacks = check(unit.db(), &[READS, resends]).await.unwrap_err();
        let sql = "GRANT UPDATE (resend_at) ON rotation TO rekey_test_rights";
        assert!(lacks.to_string().contains(sql), "{lacks}");
        assert!(!lacks.is_retryable());
    }
}
