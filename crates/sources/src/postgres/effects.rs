//! What an update does beyond its row: triggers, rules, foreign keys, publications.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{
    catalogue::Table,
    faults::Located,
    parts::{self, Heap, TREE},
};
use crate::{SourceError, TableShape};

/// When a trigger or rule fires: `O` on ordinary updates, `R` while triggers are suppressed, `A`
/// always.
const FIRING: &str = "SELECT tgname::text, tgenabled::text FROM pg_catalog.pg_trigger \
     JOIN tree ON tgrelid = tree.oid \
     WHERE NOT tgisinternal AND (tgtype::int & 16) <> 0 AND tgenabled <> 'D' \
     UNION SELECT 'rule ' || rulename, ev_enabled::text FROM pg_catalog.pg_rewrite \
     JOIN tree ON ev_class = tree.oid WHERE ev_type = '2' AND ev_enabled <> 'D' ORDER BY 1";

/// An update of either side is checked against the other, or cascades into it.
const FOREIGN_KEYS: &str = "SELECT DISTINCT a.attname::text, f.conname || ' of ' || f.conrelid::regclass \
     FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_attribute a \
     ON a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey) \
     OR a.attrelid = f.confrelid AND a.attnum = ANY (f.confkey) \
     WHERE f.contype = 'f' AND a.attrelid IN (SELECT oid FROM tree) ORDER BY 1, 2";

/// Publications name a table, its partitions, or what it is a partition of.
const PUBLICATIONS: &str = "SELECT DISTINCT p.pubname::text FROM pg_catalog.pg_publication p \
     JOIN pg_catalog.pg_publication_tables pt ON pt.pubname = p.pubname \
     JOIN pg_catalog.pg_namespace n ON n.nspname = pt.schemaname \
     JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = pt.tablename \
     WHERE p.pubupdate AND (c.oid IN (SELECT oid FROM tree) \
     OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($1::oid::regclass))) \
     ORDER BY 1";

/// The table's shape, with its heaps and what its updates do; partitions included.
pub(super) async fn describe(
    connection: &mut PgConnection,
    table: Table,
) -> Result<TableShape, SourceError> {
    let heaps = parts::find(connection, &table).await?;
    let firing = sqlx::query(AssertSqlSafe(format!("{TREE} {FIRING}"))).bind(table.oid);
    let firing = firing.fetch_all(&mut *connection).await.at(&table.place)?;
    let mut update_triggers = BTreeSet::new();
    let mut always_triggers = BTreeSet::new();
    for row in &firing {
        let name: String = row.try_get(0).at(&table.place)?;
        let enabled: String = row.try_get(1).at(&table.place)?;
        if enabled != "R" {
            update_triggers.insert(name.clone());
        }
        if enabled != "O" {
            always_triggers.insert(name);
        }
    }
    let published = sqlx::query_scalar(AssertSqlSafe(format!("{TREE} {PUBLICATIONS}")));
    let published = published.bind(table.oid).fetch_all(&mut *connection);
    let published = published.await.at(&table.place)?;
    let tied = sqlx::query_as(AssertSqlSafe(format!("{TREE} {FOREIGN_KEYS}"))).bind(table.oid);
    let tied = tied.fetch_all(&mut *connection).await.at(&table.place)?;
    Ok(TableShape {
        foreign_keys: tied,
        heaps: heaps.into_iter().map(Heap::into_name).collect(),
        update_triggers: update_triggers.into_iter().collect(),
        always_triggers: always_triggers.into_iter().collect(),
        publications: published,
        ..table.shape
    })
}
