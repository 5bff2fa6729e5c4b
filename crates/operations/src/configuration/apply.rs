//! `apply`: writes desired keyrings, sources and columns to the store; `plan` only says what would change.

use rekey_domain::{KeyringName, Principal, Purpose};
use rekey_messages::RotationDue;
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
    authorise, sources::look::declared_table,
};

mod algorithm;
pub(crate) mod backed_up;
mod change;
pub(crate) mod looked;
mod notified;
mod overlaps;
mod renames;
mod whereabouts;

use algorithm::Retired;
pub use change::Change;
use looked::{Looked, Resolved};
use whereabouts::Whereabouts;

/// The keyrings that are to be and are not there yet: making them is [`init`](crate::init)'s.
///
/// # Errors
/// As [`apply`]: no keyring is made for what would be refused.
pub async fn missing_keyrings(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<KeyringName>, OperationError> {
    authorise(principal, Action::Plan)?;
    let there = keyrings::all(services.store.db()).await?;
    let is_missing = |name: &KeyringName| there.iter().all(|keyring| keyring.name != *name);
    let names = desired.keyrings.iter().map(|keyring| &keyring.name);
    let missing: Vec<_> = names.filter(|name| is_missing(name)).cloned().collect();
    if !missing.is_empty() && !columns::all(services.store.db()).await?.is_empty() {
        refuse_taken(services, desired, &missing).await?;
        refuse(services, desired, &look(desired).await?).await?;
    }
    Ok(missing)
}

/// A column stays under the keys that it is under.
async fn refuse_taken(
    services: &Services,
    desired: &Desired,
    missing: &[KeyringName],
) -> Result<(), OperationError> {
    for column in columns::all(services.store.db()).await? {
        let name = &column.spec.name;
        let table = declared_table(desired, &name.source, &name.table);
        let declared =
            table.and_then(|table| table.columns.iter().find(|one| one.name == name.column));
        if let Some(declared) = declared.filter(|one| missing.contains(&one.keyring)) {
            let (has, asked) = (&column.spec.keyring, &declared.keyring);
            return Err(OperationError::Refused(format!(
                "column {name} is protected already with keyring {has}, and {asked} was asked for: that is frozen at first use; its values are under that keyring's keys, and no command moves them to another's"
            )));
        }
    }
    Ok(())
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
    let looked = look(desired).await?;
    Ok(preview(services, desired, &looked).await?.changes)
}

/// Looks at every source of the file; refuses a column that it declares twice.
async fn look(desired: &Desired) -> Result<Looked<'_>, OperationError> {
    let looked = Looked::at(desired).await?;
    overlaps::refuse_twice(&looked)?;
    Ok(looked)
}

/// Refuses what contradicts what is protected, whichever keyrings there are yet.
async fn refuse(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<Whereabouts, OperationError> {
    let whereabouts = whereabouts::look(services, desired, looked).await?;
    renames::refuse_renamed(services, desired, looked).await?;
    overlaps::refuse_protected(services, desired, looked).await?;
    algorithm::refuse_too_new(services, desired).await?;
    Ok(whereabouts)
}

async fn preview(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<Written, OperationError> {
    let whereabouts = refuse(services, desired, looked).await?;
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
    let looked = look(desired).await?;
    let expected = preview(services, desired, &looked).await?;
    if expected.changes.is_empty() && !expected.noted {
        return Ok(expected.changes);
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
        let policy = wanted.policy_over(Some(found.policy.backup), desired.backup);
        if found.policy != policy {
            keyrings::set_policy(unit, found.id, &policy).await?;
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
    changes.extend(notified::write(unit, &desired.channels).await?);
    changes.extend(backed_up::write(unit, desired).await?);
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
            Protection::Retyped => changes.push(Change {
                subject: format!("column {name}"),
                change: "types of the columns that it is bound to noted anew; rekey columns check looks whether its values open".to_owned(),
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
