//! What an update does beyond its row: triggers, rules, foreign keys, publications, a move to another partition.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{
    catalogue::Table,
    faults::Located,
    own_code,
    parts::{self, Heap, TREE},
};
use crate::{SourceError, TableShape};

/// PostgreSQL 14 calls a partition's own copy of a trigger internal, as if nobody had made it.
///
/// When a trigger or rule fires: `O` on ordinary updates, `R` while triggers are suppressed, `A`
/// always.
const FIRING: &str = "SELECT tgname::text, tgenabled::text FROM pg_catalog.pg_trigger \
     JOIN tree ON tgrelid = tree.oid \
     WHERE (tgparentid <> 0 OR NOT tgisinternal) AND (tgtype::int & 16) <> 0 AND tgenabled <> 'D' \
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

/// Published heaps, alone or as partitions, without a primary key, a named index or FULL as the replica identity that
/// tells subscribers which row was updated.
const UNIDENTIFIED: &str = "SELECT c.oid::regclass::text FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
     WHERE c.relkind = 'r' AND EXISTS ( \
         SELECT FROM pg_catalog.pg_publication p \
         JOIN pg_catalog.pg_publication_tables pt ON pt.pubname = p.pubname \
         JOIN pg_catalog.pg_namespace n ON n.nspname = pt.schemaname \
         JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = pt.tablename \
         WHERE p.pubupdate AND (t.oid = c.oid \
         OR t.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid::regclass)))) \
     AND CASE c.relreplident WHEN 'f' THEN false WHEN 'n' THEN true ELSE NOT EXISTS ( \
         SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid \
         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END ORDER BY 1";

/// Columns that a partition key names, directly or in an expression. PostgreSQL ties each to its table: one cannot be
/// dropped without the other.
const PARTITION_KEY: &str = "SELECT DISTINCT a.attname::text FROM tree \
     JOIN pg_catalog.pg_partitioned_table k ON k.partrelid = tree.oid \
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = tree.oid \
     AND d.objsubid > 0 AND d.refclassid = d.classid AND d.refobjid = d.objid \
     AND d.refobjsubid = 0 AND d.deptype = 'i' \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attnum = d.objsubid ORDER BY 1";

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
    let unidentified = sqlx::query_scalar(AssertSqlSafe(format!("{TREE} {UNIDENTIFIED}")));
    let unidentified = unidentified.bind(table.oid).fetch_all(&mut *connection);
    let unidentified = unidentified.await.at(&table.place)?;
    let partition_key = sqlx::query_scalar(AssertSqlSafe(format!("{TREE} {PARTITION_KEY}")));
    let partition_key = partition_key.bind(table.oid).fetch_all(&mut *connection);
    let partition_key = partition_key.await.at(&table.place)?;
    let tied = sqlx::query_as(AssertSqlSafe(format!("{TREE} {FOREIGN_KEYS}"))).bind(table.oid);
    let tied = tied.fetch_all(&mut *connection).await.at(&table.place)?;
    let oids: Vec<_> = heaps.iter().map(Heap::oid).collect();
    let own_code = own_code::of(connection, &oids, &table.place).await?;
    Ok(TableShape {
        foreign_keys: tied,
        heaps: heaps.into_iter().map(Heap::into_name).collect(),
        update_triggers: update_triggers.into_iter().collect(),
        always_triggers: always_triggers.into_iter().collect(),
        own_code,
        publications: published,
        unidentified,
        partition_key,
        ..table.shape
    })
}
