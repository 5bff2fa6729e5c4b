//! A batch takes its keys, its columns, what to read of them and where to write.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use rekey_domain::{KeyId, RotationState};
use rekey_operations::{OperationError, Services};
use rekey_sources::{ReadColumn, ReadQuery, Source, SourceRow, WriteTarget};
use rekey_store::{
    batches::Batch,
    columns::{self, Protected},
    keys,
    rotations::Rotation,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    again::Starts,
    keys::{Keys, Ours},
};

/// A batch with everything it takes.
pub struct Work<'a> {
    pub services: &'a Services,
    pub target: KeyId,
    /// The target and later keys: values under them are not moved.
    pub settled: HashSet<KeyId>,
    pub columns: Vec<Protected>,
    pub query: ReadQuery,
    pub keys: Keys,
    pub source: Arc<dyn Source>,
    pub target_part: WriteTarget,
    pub met: BTreeMap<Uuid, u64>,
    /// Values whose bytes are noted where they open.
    pub in_quarantine: Arc<Starts>,
    pub wide: &'a Semaphore,
}

/// What it takes to work on batches of the table, `batch` first; `wide` lets one batch of the process at a time
/// work on wide rows.
pub async fn prepare<'a>(
    services: &'a Services,
    (rotation, batch): (&Rotation, &Batch),
    target: KeyId,
    wide: &'a Semaphore,
) -> Result<Work<'a>, OperationError> {
    let db = services.store.db();
    let all = columns::all(db).await?;
    let (of_table, others): (Vec<_>, Vec<_>) = all
        .iter()
        .cloned()
        .partition(|column| column.table.id == batch.table_id);
    let mut columns = of_table.clone();
    columns.retain(|column| column.keyring_id == rotation.keyring_id);
    let Some(first) = columns.first() else {
        let why = format!("batch {} names a table without protected columns", batch.id);
        return Err(OperationError::Refused(why));
    };
    let source = services.source(&first.source).await?;
    let keys = keys::of_keyring(db, rotation.keyring_id).await?;
    let settled = keys::settled(&keys, Some(target));
    // Each value is opened once in a rotation: a verifying pass reads all of them.
    let left_alone = if rotation.state == RotationState::Verifying {
        Vec::new()
    } else {
        settled.iter().copied().collect()
    };
    let query = query(&columns, &left_alone, batch);
    let of_key = |key: &keys::Key| Ours {
        state: key.state,
        was_primary: key.activated_at.is_some(),
        is_closed: key.closed_at.is_some(),
    };
    let ours: HashMap<_, _> = keys.iter().map(|key| (key.id, of_key(key))).collect();
    Ok(Work {
        services,
        target,
        settled,
        keys: Keys::new(first.spec.keyring.clone(), ours),
        met: BTreeMap::new(),
        in_quarantine: Arc::default(),
        target_part: WriteTarget {
            relation: query.relation.clone(),
            part: query.part.clone(),
            triggers: first.table.triggers(),
            protected_columns: names(&of_table),
            bind_columns: bind_columns(&of_table),
            other_columns: other_columns(others, first),
            protected_tables: protected_tables(&all, first),
        },
        columns,
        query,
        source,
        wide,
    })
}

/// The tables of the same database that have protected columns.
fn protected_tables(all: &[Protected], column: &Protected) -> Vec<String> {
    let of_database = all.iter().filter(|one| is_beside(one, column));
    let mut names: Vec<_> = of_database.map(|one| one.table.relation.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What other tables of the same database have of protected columns, and of columns that these are bound to.
fn other_columns(mut others: Vec<Protected>, column: &Protected) -> Vec<String> {
    others.retain(|one| is_beside(one, column));
    let mut names = names(&others);
    names.extend(bind_columns(&others));
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a column is of the same database, which two sources may lead to.
fn is_beside(one: &Protected, other: &Protected) -> bool {
    let (one, other) = (&one.source, &other.source);
    one.id == other.id || one.database_id.is_some() && one.database_id == other.database_id
}

fn names(columns: &[Protected]) -> Vec<String> {
    let names = columns.iter().map(|one| one.spec.name.column.clone());
    names.collect()
}

fn bind_columns(columns: &[Protected]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in columns.iter().flat_map(|column| &column.spec.bind_columns) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn query(columns: &[Protected], left_alone: &[KeyId], batch: &Batch) -> ReadQuery {
    let read = columns.iter().map(|column| ReadColumn {
        name: column.spec.name.column.clone(),
        encoding: column.spec.encoding,
        settled: left_alone.to_vec(),
    });
    ReadQuery {
        relation: columns[0].table.relation.clone(),
        part: batch.part(),
        range: batch.range(),
        columns: read.collect(),
        bind_columns: bind_columns(columns),
        trusts_code: columns[0].table.trusts_code(),
    }
}

impl Work<'_> {
    /// Goes over to another part of the table.
    pub fn turn_to(&mut self, batch: &Batch) {
        (self.query.part, self.query.range) = (batch.part(), batch.range());
        self.target_part.part = batch.part();
    }

    /// How many values of each protected column the rows have.
    pub fn met_in(&self, rows: &[SourceRow]) -> BTreeMap<Uuid, u64> {
        let mut met = BTreeMap::new();
        for row in rows {
            for (value, column) in row.values.iter().zip(&self.columns) {
                if value.is_some() {
                    *met.entry(column.id).or_default() += 1;
                }
            }
        }
        met
    }
}
