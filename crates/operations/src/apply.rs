//! `apply`: writes desired keyrings, sources and columns to the store; `plan` only says what would change.

use rekey_domain::{Bind, Principal};
use rekey_sources::TableShape;
use rekey_store::{
    Unit,
    audit::Record,
    columns::{self, NewColumn},
    keyrings,
};
use serde_json::json;

use crate::{
    Action, Desired, DesiredColumn, DesiredSource, DesiredTable, OperationError, Services,
    authorise,
};

/// One thing that `apply` changes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// What: `keyring phi`, `column clinic.patients.ssn`.
    pub subject: String,
    /// How.
    pub change: String,
}

/// Says what [`apply`] would change, and changes nothing.
///
/// # Errors
/// As [`apply`].
pub async fn plan(services: &Services, desired: &Desired) -> Result<Vec<Change>, OperationError> {
    let resolved = resolve(desired).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    // Dropped without commit: what it changed is what would change.
    write(&unit, desired, &resolved).await
}

/// Writes desired state to the store, in one unit: all of it or nothing. Every source is looked at
/// first, so that a column that does not exist is found now and not by a rotation.
///
/// # Errors
/// [`OperationError`] names the keyring, source, table or column, and what is allowed.
pub async fn apply(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<Change>, OperationError> {
    authorise(principal, Action::Apply)?;
    let resolved = resolve(desired).await?;
    if plan(services, desired).await?.is_empty() {
        return Ok(Vec::new());
    }
    let pen = services.pen(principal).await?;
    let unit = services.store.begin(services.clock.now()).await?;
    let changes = write(&unit, desired, &resolved).await?;
    let details = json!({ "changes": changes });
    pen.append(
        &unit,
        Record {
            action: "configuration.applied",
            subject: "rekey.toml",
            outcome: "done",
            details,
        },
    )
    .await?;
    unit.commit().await?;
    Ok(changes)
}

/// A column with what its source's catalogue says of it.
struct Resolved<'a> {
    source: &'a DesiredSource,
    table: &'a DesiredTable,
    column: &'a DesiredColumn,
    bind_columns: Vec<String>,
    encoding: rekey_domain::TextEncoding,
}

async fn resolve(desired: &Desired) -> Result<Vec<Resolved<'_>>, OperationError> {
    let mut resolved = Vec::new();
    for source in &desired.sources {
        let open = rekey_sources::open(&source.url).await?;
        for table in &source.tables {
            let shape = open.describe(&table.relation).await?;
            refuse_triggers(source, table, &shape)?;
            for column in &table.columns {
                resolved.push(resolve_column(source, table, column, &shape)?);
            }
        }
    }
    Ok(resolved)
}

fn refuse_triggers(
    source: &DesiredSource,
    table: &DesiredTable,
    shape: &TableShape,
) -> Result<(), OperationError> {
    if shape.update_triggers.is_empty() || table.triggers_accepted {
        return Ok(());
    }
    let triggers = shape.update_triggers.join(", ");
    Err(OperationError::Configuration {
        place: format!("table {}.{}", source.name, table.name),
        problem: format!(
            "has UPDATE triggers that our writes would fire: {triggers}; say on_update = {{ triggers = \"fire\" }} if that is right"
        ),
    })
}

fn resolve_column<'a>(
    source: &'a DesiredSource,
    table: &'a DesiredTable,
    column: &'a DesiredColumn,
    shape: &TableShape,
) -> Result<Resolved<'a>, OperationError> {
    let place = format!("column {}.{}.{}", source.name, table.name, column.name);
    let wrong = |problem: String| OperationError::Configuration {
        place: place.clone(),
        problem,
    };
    let found = shape.column(&column.name).ok_or_else(|| {
        let known: Vec<_> = shape.columns.iter().map(|c| c.name.as_str()).collect();
        wrong(format!(
            "{} has no such column; it has {}",
            table.relation,
            known.join(", ")
        ))
    })?;
    let encoding = found.encoding.ok_or_else(|| {
        wrong(format!(
            "its type is {:?}; ciphertext needs a BLOB or text column",
            found.declared_type
        ))
    })?;
    let bind_columns = match &column.bind {
        Bind::Column => Vec::new(),
        Bind::Row if shape.primary_key.is_empty() => {
            return Err(wrong(
                "bind = \"row\" needs a declared primary key, and the table has none".to_owned(),
            ));
        }
        Bind::Row => shape.primary_key.clone(),
        Bind::Columns(columns) => columns.clone(),
    };
    for name in &bind_columns {
        if !shape.column(name).is_some_and(|column| column.can_bind) {
            return Err(wrong(format!(
                "{name} cannot bind a value: expected an integer, text or BLOB column"
            )));
        }
    }
    Ok(Resolved {
        source,
        table,
        column,
        bind_columns,
        encoding,
    })
}

async fn write(
    unit: &Unit,
    desired: &Desired,
    resolved: &[Resolved<'_>],
) -> Result<Vec<Change>, OperationError> {
    let mut changes = Vec::new();
    for wanted in &desired.keyrings {
        let found = keyrings::by_name(unit.db(), &wanted.name).await?;
        if found.policy.0 != wanted.policy {
            keyrings::set_policy(unit, found.id, &wanted.policy).await?;
            changes.push(Change {
                subject: format!("keyring {}", wanted.name),
                change: "policy changed".to_owned(),
            });
        }
    }
    for Resolved {
        source,
        table,
        column,
        bind_columns,
        encoding,
    } in resolved
    {
        let keyring = keyrings::by_name(unit.db(), &column.keyring).await?;
        let stored = columns::ensure_source(unit, &source.name, &source.url).await?;
        let stored = columns::ensure_table(unit, stored.id, &table.name, &table.relation).await?;
        let name = format!("{}.{}.{}", source.name, table.name, column.name);
        let new = NewColumn {
            name: column.name.clone(),
            column_id: column
                .column_id
                .clone()
                .unwrap_or_else(|| default_column_id(source, table, column)),
            keyring: keyring.id,
            bind: column.bind.clone(),
            bind_columns: bind_columns.clone(),
            encoding: *encoding,
        };
        if columns::protect(unit, stored.id, new).await? {
            changes.push(Change {
                subject: format!("column {name}"),
                change: format!("protected by {}", keyring.name.0),
            });
        }
    }
    Ok(changes)
}

/// `source.schema.table.column`; SQLite's schema is `main`.
fn default_column_id(
    source: &DesiredSource,
    table: &DesiredTable,
    column: &DesiredColumn,
) -> String {
    let relation = if table.relation.contains('.') {
        table.relation.clone()
    } else {
        format!("main.{}", table.relation)
    };
    format!("{}.{relation}.{}", source.name, column.name)
}
