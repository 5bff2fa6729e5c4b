//! A table as the catalogue has it now.

use rekey_domain::{TextEncoding, id_part};
use sqlx::{PgConnection, Row, postgres::types::Oid};

use super::{
    columns,
    faults::Located,
    names::{Name, quote, said},
};
use crate::{ColumnShape, SourceError, TableShape, place::Place};

/// In the first of these schemas that has it.
const NAMED: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text \
    FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS path (schema, at) \
    JOIN pg_catalog.pg_namespace n ON n.nspname = path.schema \
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid \
    WHERE c.relname = $1 ORDER BY path.at LIMIT 1";
/// Those that exist and that our role may use.
const LOGIN_PATH: &str = "SET search_path TO DEFAULT; \
    SELECT pg_catalog.current_schemas(false)::pg_catalog.text[]; \
    SET search_path = pg_catalog, pg_temp";

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
        let schemas = match name.schema {
            Some(schema) => vec![schema],
            None => login_path(connection).await.at(&place)?,
        };
        let found = sqlx::query(NAMED)
            .bind(&name.table)
            .bind(&schemas)
            .fetch_optional(&mut *connection);
        let found = found.await.at(&place)?.ok_or_else(missing)?;
        let (oid, schema, table): (Oid, String, String) = read(&found).at(&place)?;
        refuse_other_kinds(&found, &schema, kinds, &place)?;
        let (primary_key, columns) = columns::of(connection, oid, &place).await?;
        Ok(Self {
            shape: TableShape {
                id_name: format!("{}.{}", id_part(&schema), id_part(&table)),
                full_name: format!("{schema}.{table}"),
                relation: said(&schema, &table),
                oid: Some(oid.0.into()),
                known_by: oid.0.to_string(),
                heaps: Vec::new(),
                primary_key,
                columns,
                foreign_keys: Vec::new(),
                update_triggers: Vec::new(),
                always_triggers: Vec::new(),
                own_code: Vec::new(),
                publications: Vec::new(),
                unidentified: Vec::new(),
                partition_key: Vec::new(),
            },
            place,
            oid,
        })
    }

    /// A column that holds ciphertext in this encoding, as an identifier.
    pub(super) fn protected(
        &self,
        name: &str,
        encoding: TextEncoding,
    ) -> Result<String, SourceError> {
        let column = self.shape_of(name)?;
        if column.encoding == Some(encoding) {
            return Ok(quote(&column.name));
        }
        let expected = match encoding {
            TextEncoding::Binary => "bytea",
            TextEncoding::Base64 => "text or varchar",
        };
        Err(SourceError::OtherType {
            relation: self.place.relation.clone(),
            column: name.to_owned(),
            found: column.declared_type.clone(),
            expected,
        })
    }

    pub(super) fn shape_of(&self, name: &str) -> Result<&ColumnShape, SourceError> {
        let found = || {
            let names = self.shape.columns.iter().map(|column| column.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        self.shape
            .column(name)
            .ok_or_else(|| SourceError::NoSuchColumn {
                relation: self.place.relation.clone(),
                column: name.to_owned(),
                found: found(),
            })
    }
}

/// The schemas where a name without one is looked for: those of the login, whatever somebody has made
/// of the session's path since. A configuration may name a table so, and a store from before does.
async fn login_path(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::raw_sql(LOGIN_PATH).fetch_all(connection).await?;
    rows.first().map_or(Ok(Vec::new()), |row| row.try_get(0))
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
