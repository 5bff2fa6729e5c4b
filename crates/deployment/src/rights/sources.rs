//! What each worker and the command line do with the protected tables of the sources, as SQL.

use rekey_domain::{Role, Triggers, Worker};
use rekey_operations::{
    OperationError, ProtectedTable, Services, protected_tables, store_rights::quote,
};
use rekey_sources::GRANT_SUPPRESS;
use serde::Serialize;

/// What it needs of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceRights {
    /// The source.
    pub source: String,
    /// The statements.
    pub sql: Vec<String>,
    /// Those that take an administrator of the server.
    pub as_administrator: Vec<String>,
}

/// Every protected table on PostgreSQL; a SQLite file has no roles.
pub(super) async fn tables(services: &Services) -> Result<Vec<ProtectedTable>, OperationError> {
    let mut tables = protected_tables(services).await?;
    tables.retain(|table| !table.source.url.starts_with("sqlite"));
    Ok(tables)
}

/// The statements for a role, source by source. A table's partitions are looked up.
pub(super) async fn statements(
    who: Role,
    role: &str,
    tables: &[ProtectedTable],
    services: &Services,
) -> Result<Vec<SourceRights>, OperationError> {
    let mut all: Vec<SourceRights> = Vec::new();
    for table in tables {
        let more = on_table(who, role, table, services).await?;
        match all.iter_mut().find(|one| one.source == more.source) {
            _ if more.sql.is_empty() => {}
            Some(one) => {
                one.sql.extend(more.sql);
                one.as_administrator.extend(more.as_administrator);
            }
            None => all.push(more),
        }
    }
    for one in &mut all {
        for sql in [&mut one.sql, &mut one.as_administrator] {
            sql.sort();
            sql.dedup();
        }
    }
    Ok(all)
}

async fn on_table(
    who: Role,
    role: &str,
    table: &ProtectedTable,
    services: &Services,
) -> Result<SourceRights, OperationError> {
    let mut found = SourceRights {
        source: table.source.name.clone(),
        sql: Vec::new(),
        as_administrator: Vec::new(),
    };
    let Some(rights) = table.rights(who, services).await? else {
        return Ok(found);
    };
    let source = services.source(&table.source).await?;
    let parts = source.part_names(&table.relation).await?;
    let ended = |sql: String| format!("{sql};");
    let statements = rekey_sources::grants(role, &parts, &rights.read, &rights.written);
    found.sql = statements.into_iter().map(ended).collect();
    let mut of_server = Vec::new();
    if rights.triggers == Triggers::Suppress && !rights.written.is_empty() {
        of_server.push(format!("{GRANT_SUPPRESS} {}", quote(role)));
    }
    let sees_lag = table.source.limits().max_replica_lag.is_some();
    if sees_lag && who == Role::Worker(Worker::ReEncryptor) {
        of_server.push(rekey_sources::grant_of_lag(role));
    }
    found.as_administrator = of_server.into_iter().map(ended).collect();
    Ok(found)
}
