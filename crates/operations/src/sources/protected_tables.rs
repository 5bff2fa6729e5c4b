//! The protected tables of the sources, and what each worker and the command line do with them.

use std::collections::BTreeSet;

use rekey_domain::{Role, Triggers, Worker};
use rekey_sources::TableRights;
use rekey_store::columns::{self, Source};

use crate::{OperationError, STORE_SOURCE, Services, sources::look::describe};

/// A protected table of a source; not the store's own.
pub struct ProtectedTable {
    /// Where it lies.
    pub source: Source,
    /// Its name there.
    pub relation: String,
    /// What becomes of its triggers when we update it.
    pub triggers: Triggers,
    /// What values are bound to, and the values.
    bound: BTreeSet<String>,
    protected: BTreeSet<String>,
}

/// Every protected table, source by source.
pub async fn protected_tables(services: &Services) -> Result<Vec<ProtectedTable>, OperationError> {
    let mut tables: Vec<(uuid::Uuid, ProtectedTable)> = Vec::new();
    for column in columns::all(services.store.db()).await? {
        if column.source.name == STORE_SOURCE {
            continue;
        }
        let position = tables.iter().position(|(id, _)| *id == column.table.id);
        let position = position.unwrap_or_else(|| {
            let table = ProtectedTable {
                source: column.source.clone(),
                relation: column.table.relation.clone(),
                triggers: column.table.triggers(),
                bound: BTreeSet::new(),
                protected: BTreeSet::new(),
            };
            tables.push((column.table.id, table));
            tables.len() - 1
        });
        let (_, table) = &mut tables[position];
        table.bound.extend(column.spec.bind_columns.iter().cloned());
        table.protected.insert(column.spec.name.column.clone());
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

impl ProtectedTable {
    /// What one does with the table; the scheduler does nothing there.
    pub async fn rights(
        &self,
        who: Role,
        services: &Services,
    ) -> Result<Option<TableRights>, OperationError> {
        let mut read = self.protected.clone();
        let written = match who {
            Role::Worker(Worker::Scheduler | Worker::IncidentNotifier) => return Ok(None),
            // It counts values by their first bytes; which row each is of it need not know.
            Role::Worker(Worker::Rotator) => BTreeSet::new(),
            // They open values where they stand.
            Role::Worker(Worker::ReEncryptor | Worker::BackupVerifier) | Role::Operator => {
                let source = services.source(&self.source).await?;
                read.extend(describe(&*source, &self.relation).await?.primary_key);
                read.extend(self.bound.iter().cloned());
                match who {
                    Role::Worker(Worker::ReEncryptor) => self.protected.clone(),
                    Role::Worker(_) | Role::Operator => BTreeSet::new(),
                }
            }
        };
        Ok(Some(TableRights {
            relation: self.relation.clone(),
            read: read.into_iter().collect(),
            written: written.into_iter().collect(),
            triggers: self.triggers,
        }))
    }
}
