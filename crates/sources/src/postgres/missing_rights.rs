//! What our role may not do that it will have to, as the grants that would mend it.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    catalogue::Table,
    faults::Located,
    names::{Name, quote},
    parts::TREE,
};
use crate::SourceError;

/// Rows are read and written in the part they lie in; the root of partitions needs no right.
const MISSING: &str = "SELECT n.nspname::text, c.relname::text, current_user::text, \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE'), w.name, w.privilege \
     FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     CROSS JOIN unnest($2::text[], $3::text[]) AS w (name, privilege) \
     WHERE c.relkind = 'r' AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_column_privilege(c.oid, w.name, w.privilege)) ORDER BY 1, 2, 6, 5";

/// The grants that are missing.
pub(super) async fn missing(
    connection: &mut PgConnection,
    table: &Table,
    read: &[String],
    written: &[String],
) -> Result<Vec<String>, SourceError> {
    let mut wanted = vec![("ctid".to_owned(), "SELECT")];
    for (names, privilege) in [(read, "SELECT"), (written, "UPDATE")] {
        for name in names {
            wanted.push((table.shape_of(name)?.name.clone(), privilege));
        }
    }
    let (names, privileges): (Vec<String>, Vec<&str>) = wanted.into_iter().unzip();
    let sql = format!("{TREE} {MISSING}");
    let rows = sqlx::query_as(AssertSqlSafe(sql))
        .bind(table.oid)
        .bind(names)
        .bind(privileges)
        .fetch_all(connection);
    let rows: Vec<(String, String, String, bool, String, String)> = rows.await.at(&table.place)?;
    let (mut schemas, mut tables) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    for (schema, name, role, may_use, column, privilege) in rows {
        let usage = format!(
            "GRANT USAGE ON SCHEMA {} TO {}",
            quote(&schema),
            quote(&role)
        );
        if !may_use && !schemas.contains(&usage) {
            schemas.push(usage);
        }
        let place = Name {
            schema: Some(schema),
            table: name,
        };
        let right = format!("{privilege} ({})", column_sql(&column));
        tables.entry((place.sql(), role)).or_default().push(right);
    }
    let grants = tables.into_iter().map(|((place, role), rights)| {
        let rights = rights.join(", ");
        format!("GRANT {rights} ON {place} TO {}", quote(&role))
    });
    schemas.extend(grants);
    Ok(schemas)
}

fn column_sql(name: &str) -> String {
    if name == "ctid" {
        name.to_owned()
    } else {
        quote(name)
    }
}
