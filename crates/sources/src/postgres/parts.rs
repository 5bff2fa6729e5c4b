//! The heaps that a table's rows lie in: itself, its partitions, the tables that inherit from it.

use rekey_domain::{Part, PartId};
use sqlx::{
    AssertSqlSafe, PgConnection, Row,
    postgres::{PgRow, types::Oid},
};

use super::{
    catalogue::Table,
    changed::{another, changed},
    connections, damage,
    faults::{self, Located},
    locked,
    names::Name,
    own_code, ranges,
};
use crate::{SourceError, place::Place};

/// The table and everything below it, as `tree (oid)`.
pub(super) const TREE: &str = "WITH RECURSIVE tree (oid) AS (SELECT $1::oid UNION \
     SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid)";
/// A heap's form: it changes when the heap is rewritten or a column is renamed, so that what was read as one column
/// never counts for another.
const FORM: &str = "(SELECT pg_catalog.pg_relation_filenode(c.oid)::text || '/' || pg_catalog.\"left\"( \
     pg_catalog.encode(pg_catalog.sha256(pg_catalog.textsend(pg_catalog.string_agg( \
         a.attnum || ' ' || pg_catalog.quote_ident(a.attname::text), ',' ORDER BY a.attnum))), 'hex'), 32) \
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)";
/// Whether a heap is part of the table, searched upwards from the heap, so that the cost does not grow with the number
/// of parts.
const PART: &str = "c.oid IN (WITH RECURSIVE up (oid) AS (SELECT c.oid UNION \
     SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid) SELECT c.oid FROM up WHERE up.oid = $1)";
/// Blocks looked at where nobody has counted the rows of a heap (`ANALYZE`) yet.
const SAMPLED_BLOCKS: i64 = 16;
/// A heap of so few blocks is one range, however many rows they hold.
const FEW_BLOCKS: i64 = 2;
/// Heaps that one statement takes together.
pub(super) const TOGETHER: usize = 64;

/// A heap.
pub(super) struct Heap {
    id: PartId,
    oid: Oid,
    name: Name,
    blocks: i64,
    counted: Option<u32>,
}

/// Every heap of the table, by name.
pub(super) async fn find(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Vec<Heap>, SourceError> {
    let sql = format!(
        "{TREE} SELECT n.nspname::text, c.relname::text, \
         CASE WHEN c.relpersistence = 't' THEN 't' ELSE c.relkind::text END, {FORM}, \
         pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8, \
         (c.reltuples / nullif(c.relpages, 0))::float8, c.oid \
         FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind <> 'p' ORDER BY 1, 2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(table.oid);
    let rows = rows.fetch_all(connection).await.at(&table.place)?;
    let mut heaps = Vec::with_capacity(rows.len());
    for row in &rows {
        refuse_foreign(row, &table.place)?;
        // Dropped while we looked. This snapshot does not show what may be in its place now.
        let gone = || SourceError::PartChanged {
            relation: table.place.relation.clone(),
            part: name(row).map_or_else(|_| "a part".to_owned(), |name| name.sql()),
        };
        heaps.push(heap(row).at(&table.place)?.ok_or_else(gone)?);
    }
    Ok(heaps)
}

/// None: it was dropped since the snapshot.
fn heap(row: &PgRow) -> Result<Option<Heap>, sqlx::Error> {
    let name = name(row)?;
    let (form, blocks): (Option<String>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
    let Some((form, blocks)) = form.zip(blocks) else {
        return Ok(None);
    };
    let per_block: Option<f64> = row.try_get(5)?;
    let id = PartId {
        name: name.sql(),
        form,
    };
    Ok(Some(Heap {
        id,
        oid: row.try_get(6)?,
        name,
        blocks,
        counted: per_block.and_then(ranges::whole_rows),
    }))
}

fn name(row: &PgRow) -> Result<Name, sqlx::Error> {
    Ok(Name {
        schema: Some(row.try_get(0)?),
        table: row.try_get(1)?,
    })
}

/// Rows on another server are another source's, and those of a temporary table only its own session reads.
fn refuse_foreign(row: &PgRow, place: &Place) -> Result<(), SourceError> {
    let kind: String = row.try_get(2).at(place)?;
    let (relation, part) = (place.relation.clone(), name(row).at(place)?.sql());
    match kind.as_str() {
        "f" => Err(SourceError::ForeignPart { relation, part }),
        "t" => Err(SourceError::TemporaryPart { relation, part }),
        _ => Ok(()),
    }
}

impl Heap {
    /// The heap in a FROM, UPDATE or JOIN, without what inherits from it.
    pub(super) fn only(&self) -> String {
        format!("ONLY {}", self.name.sql())
    }

    pub(super) fn place(&self, table: &Place) -> Place {
        Place::new(&table.database, &self.id.name)
    }

    /// What names it as a part.
    pub(super) fn id(&self) -> &PartId {
        &self.id
    }

    pub(super) fn id_and_whether_it_has_rows(&self) -> (PartId, bool) {
        (self.id.clone(), self.blocks > 0)
    }

    /// Its name as that of a part.
    pub(super) fn into_name(self) -> String {
        self.id.name
    }

    /// What PostgreSQL knows it by.
    pub(super) fn oid(&self) -> Oid {
        self.oid
    }

    /// Keeps it, until the transaction ends, from being dropped, written anew or altered.
    pub(super) async fn lock(
        &self,
        connection: &mut PgConnection,
        table: &Place,
    ) -> Result<(), SourceError> {
        lock(connection, &self.only(), table, &self.place(table)).await
    }

    /// As statements and errors name it.
    pub(super) fn to_read(&self, table: &Place) -> damage::Heap {
        damage::Heap {
            only: self.only(),
            place: self.place(table),
        }
    }

    pub(super) fn part(&self, rows_per_block: u32) -> Part {
        Part {
            id: self.id.clone(),
            end: (self.blocks > 0).then(|| self.blocks - 1),
            rows_per_block,
        }
    }

    /// About how many rows a block holds, by `ANALYZE` or by the first blocks. If one of those cannot be read, whoever
    /// reads it later finds out; see [`or_usual`].
    pub(super) async fn rows_per_block(
        &self,
        connection: &mut PgConnection,
        table: &Place,
    ) -> Result<u32, SourceError> {
        if let Some(counted) = self.counted {
            return Ok(counted);
        }
        let blocks = self.blocks.min(SAMPLED_BLOCKS);
        if blocks <= FEW_BLOCKS {
            return Ok(ranges::USUAL_ROWS);
        }
        connections::steady_by_place(connection, table).await?;
        let only = self.only();
        let sql = format!(
            "SELECT pg_catalog.count(t.ctid) FROM {only} AS t WHERE t.ctid < '({blocks},0)'::tid"
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
        let rows: Result<i64, _> = rows.await;
        let rows = rows.map_err(|error| faults::of_part(&error, table, &self.place(table)))?;
        Ok(ranges::whole_rows(rows as f64 / blocks as f64).unwrap_or(ranges::USUAL_ROWS))
    }
}

/// Locks heaps as [`Heap::lock`] does. An error of one heap shows when that heap is locked alone.
pub(super) async fn lock_all(
    connection: &mut PgConnection,
    heaps: &[Heap],
    table: &Place,
) -> Result<(), SourceError> {
    for some in heaps.chunks(TOGETHER) {
        if let [one] = some {
            one.lock(connection, table).await?;
            continue;
        }
        let all = some
            .iter()
            .map(|heap| format!("(SELECT FROM {} AS t LIMIT 0)", heap.only()));
        let all = all.collect::<Vec<_>>().join(" UNION ALL ");
        let locked = sqlx::raw_sql(AssertSqlSafe(format!("SAVEPOINT one_by_one; {all}")));
        if locked.execute(&mut *connection).await.is_ok() {
            continue;
        }
        let back = sqlx::raw_sql("ROLLBACK TO SAVEPOINT one_by_one");
        back.execute(&mut *connection).await.at(table)?;
        for heap in some {
            heap.lock(connection, table).await?;
        }
    }
    Ok(())
}

/// Rows of a block, where some could be looked at.
pub(super) fn or_usual(rows: Result<u32, SourceError>) -> Result<u32, SourceError> {
    match rows {
        Err(SourceError::Damaged { .. }) => Ok(ranges::USUAL_ROWS),
        rows => rows,
    }
}

/// Keeps a heap, by its name; see [`Heap::lock`].
pub(super) async fn lock(
    connection: &mut PgConnection,
    only: &str,
    table: &Place,
    part: &Place,
) -> Result<(), SourceError> {
    let lock = format!("SELECT FROM {only} AS t LIMIT 0");
    let locked = sqlx::query(AssertSqlSafe(lock)).execute(connection).await;
    let in_part = |error| faults::of_part(&error, table, part);
    locked.map(drop).map_err(in_part)
}

/// The heap that a part names, in SQL. A name that nobody can read is no part of any table.
pub(super) fn only(table: &Table, part: &PartId) -> Result<String, SourceError> {
    let name = Name::parse(&part.name).filter(|name| name.schema.is_some());
    let name = name.ok_or_else(|| changed(table, part))?;
    Ok(format!("ONLY {}", name.sql()))
}

/// Sees that a part is there, and that nothing else was read in our transaction.
///
/// # Errors
/// [`SourceError::PartChanged`] unless the part is one of the table's now, in the same form;
/// [`SourceError::RunsCode`] where that is not trusted.
pub(super) async fn check(
    connection: &mut PgConnection,
    table: &Table,
    part: &PartId,
    trusts_code: bool,
) -> Result<(), SourceError> {
    connections::steady(connection, &table.place).await?;
    let heap = oids(connection, table, &[part]).await?;
    let heap = *heap.first().ok_or_else(|| changed(table, part))?;
    // First, as such code may have locked other tables.
    let place = Place::new(&table.place.database, &part.name);
    own_code::refuse(connection, &[heap], trusts_code, &place).await?;
    locked::only(connection, table, heap, trusts_code).await
}

/// The same of several parts, which were read together.
///
/// # Errors
/// As [`check`].
pub(super) async fn check_all(
    connection: &mut PgConnection,
    table: &Table,
    parts: &[&PartId],
    trusts_code: bool,
) -> Result<(), SourceError> {
    connections::steady(connection, &table.place).await?;
    let heaps = oids(connection, table, parts).await?;
    if heaps.len() != parts.len() {
        return Err(another(table));
    }
    own_code::refuse(connection, &heaps, trusts_code, &table.place).await?;
    locked::all(connection, table, &heaps, trusts_code).await
}

/// Those of the parts that are the table's now, in the same form.
async fn oids(
    connection: &mut PgConnection,
    table: &Table,
    parts: &[&PartId],
) -> Result<Vec<Oid>, SourceError> {
    let (mut schemas, mut names, mut forms) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let name = Name::parse(&part.name).ok_or_else(|| changed(table, part))?;
        schemas.push(name.schema.unwrap_or_default());
        names.push(name.table);
        forms.push(part.form.as_str());
    }
    let sql = format!(
        "SELECT c.oid FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) \
         AS part (schema, name, form) \
         JOIN pg_catalog.pg_namespace n ON n.nspname = part.schema \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = part.name \
         WHERE {FORM} = part.form AND {PART}"
    );
    let oids = sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .bind(table.oid)
        .bind(schemas)
        .bind(names)
        .bind(forms)
        .fetch_all(connection);
    oids.await.at(&table.place)
}

/// Policies would hide rows from us, and `row_security = off` would make every statement fail, so they are refused
/// early.
pub(super) async fn refuse_row_security(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<(), SourceError> {
    let sql = format!(
        "{TREE} SELECT c.oid::regclass::text, quote_ident(current_user) \
         FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
         WHERE c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) ORDER BY 1 LIMIT 1"
    );
    let found = sqlx::query_as(AssertSqlSafe(sql)).bind(table.oid);
    let found: Option<(String, String)> = found.fetch_optional(connection).await.at(&table.place)?;
    let Some((relation, role)) = found else {
        return Ok(());
    };
    Err(SourceError::NotAllowed {
        database: table.place.database.to_string(),
        relation,
        what: "see all rows of",
        remedy: format!(
            "row-level security hides rows from us, and a hidden row is a lost one: ALTER ROLE {role} BYPASSRLS"
        ),
    })
}
