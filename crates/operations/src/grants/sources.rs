//! What each worker does with the protected tables of the sources.

use std::collections::BTreeSet;

use rekey_domain::Part;
use rekey_store::columns;

use super::{SourceGrants, Worker};
use crate::{OperationError, STORE_SOURCE, Services};

/// A protected table, as its source has it.
pub(super) struct ProtectedTable {
    source: String,
    /// Whether the lag of its standbys is looked at.
    sees_lag: bool,
    parts: Vec<Part>,
    /// What is read: the primary key, what values are bound to, the values.
    read: BTreeSet<String>,
    /// What is written.
    protected: BTreeSet<String>,
}

/// Every protected table on PostgreSQL; a SQLite file has no roles.
pub(super) async fn tables(services: &Services) -> Result<Vec<ProtectedTable>, OperationError> {
    let mut tables: Vec<(uuid::Uuid, ProtectedTable)> = Vec::new();
    for column in columns::all(services.store.db()).await? {
        if column.source.name == STORE_SOURCE || column.source.url.starts_with("sqlite") {
            continue;
        }
        let position = tables.iter().position(|(id, _)| *id == column.table.id);
        let index = match position {
            Some(index) => index,
            None => {
                let source = services.source(&column.source).await?;
                let relation = &column.table.relation;
                let key = source.describe(relation).await?.primary_key;
                let table = ProtectedTable {
                    source: column.source.name.clone(),
                    sees_lag: column.source.limits().max_replica_lag.is_some(),
                    parts: source.parts(relation).await?,
                    read: key.into_iter().collect(),
                    protected: BTreeSet::new(),
                };
                tables.push((column.table.id, table));
                tables.len() - 1
            }
        };
        let (_, table) = &mut tables[index];
        table.read.extend(column.spec.bind_columns.iter().cloned());
        table.read.insert(column.spec.name.column.clone());
        table.protected.insert(column.spec.name.column.clone());
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

/// The statements for a worker's role, source by source.
pub(super) fn statements(
    worker: Worker,
    role: &str,
    tables: &[ProtectedTable],
) -> Vec<SourceGrants> {
    let mut all: Vec<SourceGrants> = Vec::new();
    if worker == Worker::Scheduler {
        return all;
    }
    for table in tables {
        let sql = on_table(worker, role, table);
        match all.iter_mut().find(|one| one.source == table.source) {
            Some(one) => one.sql.extend(sql),
            None => all.push(SourceGrants {
                source: table.source.clone(),
                sql,
            }),
        }
    }
    for one in &mut all {
        one.sql.sort();
        one.sql.dedup();
    }
    all
}

fn on_table(worker: Worker, role: &str, table: &ProtectedTable) -> Vec<String> {
    let listed = |columns: &BTreeSet<String>| columns.iter().cloned().collect::<Vec<_>>();
    let protected = listed(&table.protected);
    let statements = match worker {
        // It counts values by their first bytes; which row each is of it need not know.
        Worker::Rotator => rekey_sources::grants(role, &table.parts, &protected, &[]),
        _ => rekey_sources::grants(role, &table.parts, &listed(&table.read), &protected),
    };
    let lag = table.sees_lag && worker == Worker::ReEncryptor;
    statements
        .into_iter()
        .chain(lag.then(|| rekey_sources::grant_of_lag(role)))
        .map(|sql| format!("{sql};"))
        .collect()
}
