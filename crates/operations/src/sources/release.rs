//! Releasing a column: it stops being protected once nothing in it is ciphertext of ours.

use std::sync::Arc;

use rekey_domain::{ColumnName, Principal, not_released};
use rekey_sources::{Source, SourceError, TableShape};
use rekey_store::{
    Unit,
    audit::{self, Record},
    columns::{self, Protected},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, Desired, OperationError, STORE_SOURCE, Services, authorise,
    rotations::census::look_for_replaced,
    sources::{
        check::protected,
        look::{declares, describe, key_names},
        strays,
        whereabouts::{counted, is_the_stores, live_rotation, renamed},
    },
};

/// A column that was released.
#[derive(Debug, Clone, Serialize)]
pub struct Released {
    /// The column.
    pub column: ColumnName,
    /// Values that the census counted in it, none of which is ciphertext; null where it is gone.
    pub values: Option<u64>,
    /// Whether the configuration still declares it: the next `apply` would protect it anew.
    pub still_declared: bool,
}

/// Releases a column after a census of its own found no ciphertext in it. `gone` says that the column or its table was
/// dropped; then nothing is counted, but the source must confirm it.
///
/// # Errors
/// [`OperationError::Refused`] while anything in it names a key, or a rotation of its keyring is live.
pub async fn release_column(
    services: &Services,
    desired: &Desired,
    name: &ColumnName,
    gone: bool,
    principal: &Principal,
) -> Result<Released, OperationError> {
    authorise(principal, Action::ReleaseColumn)?;
    let column = columns::by_name(services.store.db(), &name.to_string()).await?;
    if column.source.name == STORE_SOURCE {
        return Err(refused(name, "the audit log is always protected"));
    }
    let values = if gone {
        check_gone(services, &column).await?;
        None
    } else {
        Some(count(services, &column).await?)
    };
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    refuse_live_rotation(&unit, &column).await?;
    if !columns::release(&unit, column.id).await? {
        return Err(refused(name, "someone else has just released it"));
    }
    let subject = name.to_string();
    let details = json!({
        "keyring": column.spec.keyring,
        "column_id": column.spec.column_id,
        "relation": column.table.relation,
        "gone": gone,
        "values": values,
    });
    let record = Record {
        action: audit::Action::ColumnReleased,
        subject: &subject,
        outcome: "done",
        details,
    };
    pen.append(&unit, record).await?;
    unit.commit().await?;
    Ok(Released {
        column: name.clone(),
        values,
        still_declared: declares(desired, name),
    })
}

async fn refuse_live_rotation(unit: &Unit, column: &Protected) -> Result<(), OperationError> {
    let Some(live) = live_rotation(unit, column.keyring_id).await? else {
        return Ok(());
    };
    let why = format!("{live}; release it when that is over");
    Err(refused(&column.spec.name, &why))
}

/// The source, if it is the database in which the column is protected; a count in another one would prove nothing.
async fn source_of(
    services: &Services,
    column: &Protected,
) -> Result<Arc<dyn Source>, OperationError> {
    let source = services.source(&column.source).await?;
    let url = services
        .url_of(&column.source)
        .unwrap_or_else(|_| column.source.url.clone().into());
    let name = &column.spec.name;
    if column.source.name != STORE_SOURCE
        && !is_the_stores(&column.source, url.expose_url(), &*source).await?
    {
        let why = format!(
            "this program reaches source {} elsewhere than the store says, at {}; release it with that url, or rekey apply the new one first",
            name.source, column.source.url
        );
        return Err(refused(name, &why));
    }
    match renamed(&*source, &column.table).await? {
        None => Ok(source),
        Some(now) => {
            let why =
                format!("its table is called {now} now; say so, relation = \"…\", and rekey apply");
            Err(refused(name, &why))
        }
    }
}

/// Values in the column, if none of them names a key.
async fn count(services: &Services, column: &Protected) -> Result<u64, OperationError> {
    let source = source_of(services, column).await?;
    let relation = &column.table.relation;
    let mut known = column.identity.clone();
    let mut found = counted(&*source, relation, column, known).await;
    if let Err(error @ SourceError::Replaced { .. }) = found {
        let looked = look_for_replaced(services, &[column], &*source, error).await;
        known = looked
            .map_err(|why| refused(&column.spec.name, &why.to_string()))?
            .remove(0);
        found = counted(&*source, relation, column, known).await;
    }
    let counted = match found {
        Err(error) if is_gone(&error) => {
            let why =
                format!("nothing was counted: {error}. If it was dropped, say so with --gone");
            return Err(refused(&column.spec.name, &why));
        }
        counted => counted?,
    };
    let values = counted[0].iter().map(|(_, values)| values).sum();
    match not_released(&counted.concat(), &key_names(services).await?) {
        Some(why) => Err(refused(&column.spec.name, &why)),
        None => Ok(values),
    }
}

async fn check_gone(services: &Services, column: &Protected) -> Result<(), OperationError> {
    let source = source_of(services, column).await?;
    let shape = match describe(&*source, &column.table.relation).await {
        Err(SourceError::NoSuchTable { .. }) => None,
        Err(error) => return Err(error.into()),
        Ok(shape) => Some(shape),
    };
    if let Some(shape) = &shape
        && shape.column(&column.spec.name.column).is_some()
    {
        return Err(refused(
            &column.spec.name,
            "it is not gone: leave out --gone, and it is counted",
        ));
    }
    if let Some(known) = &column.identity
        && let Some((relation, name)) = source.column_of(known).await?
    {
        let why = format!("it is not gone but renamed, to {relation}.{name}: rekey columns rename");
        return Err(refused(&column.spec.name, &why));
    }
    refuse_renamed(services, &*source, column, shape.as_ref()).await
}

/// Refuses to release a dropped column while its ciphertext may still exist elsewhere: in a renamed column or table, in
/// a part that was detached before its table was dropped, or in a child table that kept an inherited column. Looks at
/// the other columns of its table, or at all tables if the table is gone.
async fn refuse_renamed(
    services: &Services,
    source: &dyn Source,
    column: &Protected,
    shape: Option<&TableShape>,
) -> Result<(), OperationError> {
    let all = columns::all(services.store.db()).await?;
    let of_source = all.iter().filter(|one| one.source.id == column.source.id);
    let protected = protected(source, &of_source.collect::<Vec<_>>()).await;
    let strays = strays::look(source, &protected, shape).await?;
    let keys = key_names(services).await?;
    let mut found = strays.found.iter();
    if let Some(stray) = found.find(|stray| not_released(&stray.counts, &keys).is_some()) {
        let why = format!(
            "{} holds ciphertext of ours and is not protected: if it was renamed, say its name in rekey.toml, then rekey columns rename",
            stray.place()
        );
        return Err(refused(&column.spec.name, &why));
    }
    // A table with a number was already looked for by that, and our role may read what was a part of it.
    let was_dropped = shape.is_none() && column.table.oid.is_some();
    let Some(place) = strays.unreadable.first().filter(|_| !was_dropped) else {
        return Ok(());
    };
    let why = format!("it may have been renamed to {place}, which this role may not read");
    Err(refused(&column.spec.name, &why))
}

fn is_gone(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::NoSuchTable { .. } | SourceError::NoSuchColumn { .. }
    )
}

fn refused(name: &ColumnName, why: &str) -> OperationError {
    OperationError::Refused(format!("column {name} is not released: {why}"))
}
