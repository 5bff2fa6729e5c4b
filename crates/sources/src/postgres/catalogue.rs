//! A table as the catalogue has it now.

use rekey_domain::id_part;
use sqlx::{PgConnection, Row, postgres::types::Oid};

use super::{columns, faults::Located, names::Name};
use crate::{SourceError, TableShape, place::Place};

/// A table, or the root of a tree of partitions or of tables that inherit.
pub(super) struct Table {
    pub(super) place: Place,
    pub(super) oid: Oid,
    /// Its shape, without its heaps and what updates mean beyond its rows.
    pub(super) shape: TableShape,
}

impl Table {
    /// Looks the table up, and refuses what has no rows of its own.
    pub(super) async fn find(
        connection: &mut PgConnection,
        place: Place,
    ) -> Result<Self, SourceError> {
        Self::lookup(connection, place, &["r", "p"]).await
    }

    /// The same for what is only looked at: a materialized view has rows too.
    pub(super) async fn find_to_look_at(
        connection: &mut PgConnection,
        place: Place,
    ) -> Result<Self, SourceError> {
        Self::lookup(connection, place, &["r", "p", "m"]).await
    }

    async fn lookup(
        connection: &mut PgConnection,
        place: Place,
        kinds: &[&str],
    ) -> Result<Self, SourceError> {
        let missing = || SourceError::NoSuchTable {
            database: place.database.to_string(),
            relation: place.relation.clone(),
        };
        let name = Name::parse(&place.relation).ok_or_else(missing)?;
        let found = sqlx::query(
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname = $1 AND CASE WHEN $2::text IS NULL \
             THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $2 END",
        )
        .bind(&name.table)
        .bind(&name.schema)
        .fetch_optional(&mut *connection);
        let found = found.await.at(&place)?.ok_or_else(missing)?;
        let (oid, schema, table): (Oid, String, String) = read(&found).at(&place)?;
        refuse_other_kinds(&found, &schema, kinds, &place)?;
        let (primary_key, columns) = columns::of(connection, oid, &place).await?;
        Ok(Self {
            shape: TableShape {
                id_name: format!("{}.{}", id_part(&schema), id_part(&table)),
                full_name: format!("{schema}.{table}"),
                oid: Some(oid.0.into()),
                heaps: Vec::new(),
                primary_key,
                columns,
                foreign_keys: Vec::new(),
                update_triggers: Vec::new(),
                always_triggers: Vec::new(),
                publications: Vec::new(),
                unidentified: Vec::new(),
                partition_key: Vec::new(),
            },
            place,
            oid,
        })
    }
}

fn read(row: &sqlx::postgres::PgRow) -> Result<(Oid, String, String), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

fn refuse_other_kinds(
    found: &sqlx::postgres::PgRow,
    schema: &str,
    kinds: &[&str],
    place: &Place,
) -> Result<(), SourceError> {
    let kind: String = found.try_get(3).at(place)?;
    let own = ["pg_catalog", "information_schema", "pg_toast"].contains(&schema);
    let kind = match kind.as_str() {
        kind if kinds.contains(&kind) && !own => return Ok(()),
        "r" | "p" => "table of PostgreSQL's own",
        "v" => "view",
        "m" => "materialized view",
        "f" => "foreign table",
        "S" => "sequence",
        _ => "relation without rows of its own",
    };
    Err(SourceError::NotATable {
        relation: place.relation.clone(),
        kind: kind.to_owned(),
    })
}
