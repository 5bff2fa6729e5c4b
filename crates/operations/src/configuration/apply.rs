//! `apply`: writes desired keyrings, sources and columns to the store; `plan` only says what would change.

use std::{collections::HashMap, sync::Arc};

use rekey_domain::{Bind, BindType, KeyringName, Principal, Purpose, id_part, undeclared};
use rekey_messages::RotationDue;
use rekey_sources::{Source, TableShape};
use rekey_store::{
    Unit,
    audit::{self, Record},
    columns::{self, NewColumn, Protection},
    keyrings, rotations,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, ColumnConfig, Desired, KeyringConfig, OperationError, STORE_SOURCE, Services,
    SourceConfig, TableConfig, authorise, sources::effects::effects,
};

mod algorithm;
mod overlaps;
mod renames;
mod whereabouts;

use algorithm::Retired;
use whereabouts::Whereabouts;

/// One thing that `apply` changes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// What: `keyring phi`, `column clinic.patients.ssn`.
    pub subject: String,
    /// How.
    pub change: String,
}

/// The keyrings that are to be and are not there yet: making them is [`init`](crate::init)'s.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn missing_keyrings(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<KeyringName>, OperationError> {
    authorise(principal, Action::Plan)?;
    let there = keyrings::all(services.store.db()).await?;
    let is_missing = |name: &KeyringName| there.iter().all(|keyring| keyring.name != *name);
    let names = desired.keyrings.iter().map(|keyring| &keyring.name);
    Ok(names.filter(|name| is_missing(name)).cloned().collect())
}

/// Says what [`apply`] would change, and changes nothing.
///
/// # Errors
/// As [`apply`].
pub async fn plan(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<Change>, OperationError> {
    authorise(principal, Action::Plan)?;
    let looked = Looked::at(desired).await?;
    Ok(preview(services, desired, &looked).await?.changes)
}

async fn preview(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<Written, OperationError> {
    let whereabouts = whereabouts::look(services, desired, looked).await?;
    renames::refuse_renamed(services, desired, looked).await?;
    overlaps::refuse_protected(services, desired, looked).await?;
    algorithm::refuse_too_new(services, desired).await?;
    let unit = services.store.begin().await?;
    // Dropped without a commit: the changes made are the changes that would be made.
    write(&unit, desired, &looked.resolved, &whereabouts).await
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
    let looked = Looked::at(desired).await?;
    let Written { changes, noted, .. } = preview(services, desired, &looked).await?;
    if changes.is_empty() && !noted {
        return Ok(changes);
    }
    // It may count a table, which takes long: the pen is taken after it.
    let whereabouts = whereabouts::look(services, desired, &looked).await?;
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    let written = write(&unit, desired, &looked.resolved, &whereabouts).await?;
    let Written {
        changes, retired, ..
    } = written;
    if changes.is_empty() {
        // Nobody asked to note the identities of tables, so that is not audited.
        unit.commit().await?;
        return Ok(changes);
    }
    for key in &retired {
        pen.append(&unit, key.record()).await?;
    }
    let details = json!({ "changes": changes });
    pen.append(
        &unit,
        Record {
            action: audit::Action::ConfigurationApplied,
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
    source: &'a SourceConfig,
    table: &'a TableConfig,
    column: &'a ColumnConfig,
    shape: Arc<TableShape>,
    bind_columns: Vec<String>,
    bind_types: Vec<BindType>,
    encoding: rekey_domain::TextEncoding,
    column_id: String,
}

/// The sources of the file, and what their catalogues say of its columns.
struct Looked<'a> {
    sources: HashMap<&'a str, Arc<dyn Source>>,
    /// What tells the database of each from the others.
    instances: HashMap<&'a str, String>,
    resolved: Vec<Resolved<'a>>,
}

impl<'a> Looked<'a> {
    async fn at(desired: &'a Desired) -> Result<Self, OperationError> {
        let (mut sources, mut resolved) = (HashMap::new(), Vec::new());
        let mut instances = HashMap::new();
        for source in &desired.sources {
            let open = rekey_sources::open(source.url.expose_url()).await?;
            for table in &source.tables {
                let shape = Arc::new(open.describe(&table.relation).await?);
                refuse_effects(source, table, &shape)?;
                for column in &table.columns {
                    resolved.push(resolve_column(source, table, column, &shape)?);
                }
            }
            instances.insert(source.name.as_str(), open.instance().await?);
            sources.insert(source.name.as_str(), open);
        }
        let looked = Self {
            sources,
            instances,
            resolved,
        };
        overlaps::refuse_twice(&looked)?;
        Ok(looked)
    }
}

/// Our updates may do more than they say: a person has to know, and to say that it is right.
fn refuse_effects(
    source: &SourceConfig,
    table: &TableConfig,
    shape: &TableShape,
) -> Result<(), OperationError> {
    let Some(problem) = undeclared(table.on_update, effects(shape)) else {
        return Ok(());
    };
    Err(OperationError::Configuration {
        place: format!("table {}.{}", source.name, table.name),
        problem,
    })
}

fn resolve_column<'a>(
    source: &'a SourceConfig,
    table: &'a TableConfig,
    column: &'a ColumnConfig,
    shape: &Arc<TableShape>,
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
            "its type is {:?}; ciphertext needs a bytea, BLOB or text column",
            found.declared_type
        ))
    })?;
    if let Some(tie) = tied(shape, &found.name) {
        return Err(wrong(format!(
            "{tie} ties it to another table, whose values would not change with it, or would be changed behind everyone's back; drop the foreign key, or tie the tables by another column"
        )));
    }
    if shape.partition_key.contains(&found.name) {
        return Err(wrong(
            "it decides in which partition a row lies, and a new value would move the row or fit in none; partition the table by another column".to_owned(),
        ));
    }
    let bind_columns = bind_columns(&column.bind, shape).map_err(wrong)?;
    let bind_types = bind_columns.iter().map(|name| bind_type(shape, name));
    let bind_types = bind_types.collect::<Result<_, _>>().map_err(wrong)?;
    Ok(Resolved {
        source,
        table,
        column,
        shape: Arc::clone(shape),
        bind_columns,
        bind_types,
        encoding,
        column_id: column_id(source, column, shape),
    })
}

/// The columns that a bind resolves to; the error says why it does not, and what to do.
pub(crate) fn bind_columns(bind: &Bind, shape: &TableShape) -> Result<Vec<String>, String> {
    match bind {
        Bind::Column => Ok(Vec::new()),
        Bind::Row if shape.primary_key.is_empty() => Err(
            "bind = \"row\" needs a declared primary key, and the table has none: add one, name columns that never change, bind = [\"…\"], or say bind = \"column\"".to_owned(),
        ),
        Bind::Row => Ok(shape.primary_key.clone()),
        Bind::Columns(columns) => Ok(columns.clone()),
    }
}

/// The foreign key that a column is part of.
fn tied<'a>(shape: &'a TableShape, column: &str) -> Option<&'a str> {
    let mut ties = shape.foreign_keys.iter();
    let tie = ties.find(|(tied, _)| shape.column(tied).is_some_and(|tied| tied.name == column));
    tie.map(|(_, name)| name.as_str())
}

/// What a column's values bind others as; the error says why they cannot, and what to do.
pub(crate) fn bind_type(shape: &TableShape, name: &str) -> Result<BindType, String> {
    let column = shape.column(name);
    if let Some(of) = column.and_then(|column| column.bind_type) {
        return Ok(of);
    }
    let found = match column {
        Some(column) if column.declared_type.is_empty() => {
            "a column of no type, whose values may be of any".to_owned()
        }
        Some(column) => format!("a column of type {:?}", column.declared_type),
        None => "no such column".to_owned(),
    };
    Err(format!(
        "{name} cannot bind a value: found {found}, expected one of integers, UUID, text, bytea or BLOB that the database does not compute; name such columns that never change, bind = [\"…\"], or say bind = \"column\""
    ))
}

/// What was written.
struct Written {
    changes: Vec<Change>,
    retired: Vec<Retired>,
    /// Whether something was noted that is no change.
    noted: bool,
}

async fn write(
    unit: &Unit,
    desired: &Desired,
    resolved: &[Resolved<'_>],
    whereabouts: &Whereabouts,
) -> Result<Written, OperationError> {
    whereabouts.hold(unit, desired).await?;
    let (mut changes, mut retired, mut noted) = (Vec::new(), Vec::new(), false);
    for wanted in &desired.keyrings {
        let found = keyrings::find(unit.db(), &wanted.name).await?;
        let found = found.ok_or_else(|| not_made(wanted))?;
        if found.policy != wanted.policy {
            keyrings::set_policy(unit, found.id, &wanted.policy).await?;
            wake_rotation(unit, found.id).await?;
            changes.push(Change {
                subject: format!("keyring {}", wanted.name),
                change: "policy changed".to_owned(),
            });
        }
        if found.algorithm != wanted.algorithm {
            let (change, keys) = algorithm::change(unit, &found, wanted.algorithm).await?;
            changes.push(change);
            changes.extend(keys.iter().map(Retired::change));
            retired.extend(keys);
        }
    }
    for Resolved {
        source,
        table,
        column,
        shape,
        bind_columns,
        bind_types,
        encoding,
        column_id,
    } in resolved
    {
        let keyring = keyrings::by_name(unit.db(), &column.keyring).await?;
        let name = format!("{}.{}.{}", source.name, table.name, column.name);
        if keyring.purpose == Purpose::Signing {
            return Err(signs_only(&name, column));
        }
        // Who applies reaches the store as a user of its own.
        let url = match source.name == STORE_SOURCE {
            true => source.url.without_login(),
            false => source.url.without_password(),
        };
        let (stored, moved) = columns::ensure_source(unit, &source.name, &url).await?;
        if moved {
            changes.push(Change {
                subject: format!("source {}", source.name),
                change: "url changed".to_owned(),
            });
        }
        if columns::set_limits(unit, &stored, &source.limits).await? {
            changes.push(Change {
                subject: format!("source {}", source.name),
                change: "limits changed".to_owned(),
            });
        }
        let database = whereabouts.database(&source.name);
        noted |= columns::note_database(unit, &stored, database).await?;
        let (stored, changed) = columns::ensure_table(
            unit,
            stored.id,
            &table.name,
            // With its schema, so that each process's search path no longer decides where the table is.
            &shape.relation,
            table.on_update,
        )
        .await?;
        if changed {
            changes.push(Change {
                subject: format!("table {}.{}", source.name, table.name),
                change: "relation, or what was said of its updates, changed".to_owned(),
            });
        }
        noted |= columns::note_oid(unit, &stored, shape.oid).await?;
        let new = NewColumn {
            name: column.name.clone(),
            column_id: column_id.clone(),
            is_id_said: column.column_id.is_some(),
            keyring: keyring.id,
            bind: column.bind.clone(),
            bind_columns: bind_columns.clone(),
            bind_types: bind_types.clone(),
            encoding: *encoding,
            identity: shape.identity(&column.name),
        };
        match columns::protect(unit, stored.id, new).await? {
            Protection::New => changes.push(Change {
                subject: format!("column {name}"),
                change: format!("protected by {}", keyring.name),
            }),
            Protection::Noted => noted = true,
            Protection::Known => {}
        }
    }
    overlaps::refuse_moving_binds(unit, resolved).await?;
    Ok(Written {
        changes,
        retired,
        noted,
    })
}

fn not_made(wanted: &KeyringConfig) -> OperationError {
    OperationError::Configuration {
        place: format!("keyring {}", wanted.name),
        problem: "is not in the store yet; run rekey init, which makes it and its first keys"
            .to_owned(),
    }
}

fn signs_only(name: &str, column: &ColumnConfig) -> OperationError {
    OperationError::Configuration {
        place: format!("column {name}"),
        problem: format!(
            "keyring {} has purpose SIGNING and protects no column; expected one of purpose PHI",
            column.keyring
        ),
    }
}

/// A higher `concurrency` counts at once: the rotator dispatches the further batches.
async fn wake_rotation(unit: &Unit, keyring: Uuid) -> Result<(), OperationError> {
    let of_keyring = rotations::of_keyring(unit.db(), keyring).await?;
    for rotation in of_keyring.iter().filter(|one| one.state.is_live()) {
        let rotation = rotation.id;
        unit.send(&RotationDue { rotation }).await?;
    }
    Ok(())
}

/// What was said, or `source.schema.table.column` as the catalogue has them; no two columns share it.
fn column_id(source: &SourceConfig, column: &ColumnConfig, shape: &TableShape) -> String {
    let default = || {
        format!(
            "{}.{}.{}",
            source.name,
            shape.id_name,
            id_part(&column.name)
        )
    };
    column.column_id.clone().unwrap_or_else(default)
}
