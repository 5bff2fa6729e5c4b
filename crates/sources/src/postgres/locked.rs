//! Whether a transaction read the heaps that it meant to: each statement looks names up again, and a schema or a table
//! can be renamed between two statements without waiting for anyone.

use sqlx::{PgConnection, postgres::types::Oid};

use super::{catalogue::Table, changed, connections, faults::Located};
use crate::SourceError;

/// A statement keeps its locks until its transaction ends. Locks on our heaps' indexes and TOAST tables are expected;
/// any other locked table was read in place of a heap. A table that is newer than our snapshot is in no catalogue that
/// we see.
const OTHERS: &str = "SELECT \
    (SELECT pg_catalog.count(DISTINCT l.relation) FROM pg_catalog.pg_locks l \
        WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation = ANY ($1)), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks l \
        LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
        WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= 16384::pg_catalog.oid \
        AND l.relation <> ALL ($1) AND (c.oid IS NULL OR c.relkind NOT IN ('i', 'I', 't'))), \
    (SELECT pg_catalog.min(s.name) FROM pg_catalog.unnest('{zero_damaged_pages, ignore_checksum_failure}'::text[]) \
        AS s (name) WHERE pg_catalog.current_setting(s.name) <> 'off')";

/// Sees that our transaction has locked all of these heaps, and no other table; code that is trusted may read others.
///
/// # Errors
/// [`SourceError::PartChanged`] where another was read in place of one of them; [`SourceError::HidesDamage`] where
/// damaged pages look empty.
pub(super) async fn all(
    connection: &mut PgConnection,
    table: &Table,
    heaps: &[Oid],
    trusts_code: bool,
) -> Result<(), SourceError> {
    connections::steady(connection, &table.place).await?;
    let (ours, others) = look(connection, table, heaps).await?;
    let alone = others == 0 || trusts_code;
    if usize::try_from(ours).is_ok_and(|ours| ours == heaps.len()) && alone {
        return Ok(());
    }
    Err(changed::another(table))
}

/// Checks that our transaction, in a session that was just reset, has read this heap or nothing.
///
/// # Errors
/// As [`all`].
pub(super) async fn only(
    connection: &mut PgConnection,
    table: &Table,
    heap: Oid,
    trusts_code: bool,
) -> Result<(), SourceError> {
    match look(connection, table, &[heap]).await? {
        (1, _) if trusts_code => Ok(()),
        (_, 0) => Ok(()),
        _ => Err(changed::another(table)),
    }
}

async fn look(
    connection: &mut PgConnection,
    table: &Table,
    heaps: &[Oid],
) -> Result<(i64, i64), SourceError> {
    // Names are looked up in pg_catalog alone, and an unnamed statement cannot have been exchanged.
    let found = sqlx::query_as(OTHERS).bind(heaps).persistent(false);
    let found = found.fetch_one(connection).await;
    let (ours, others, hiding): (_, _, Option<String>) = found.at(&table.place)?;
    // Only an administrator can set this, and we may not reset it.
    if let Some(setting) = hiding {
        return Err(SourceError::HidesDamage {
            database: table.place.database.to_string(),
            setting,
        });
    }
    Ok((ours, others))
}
