//! Releasing a column: it stops being protected once nothing in it is ciphertext of ours.

use std::collections::HashSet;

use rekey_domain::{ColumnName, Principal, TextEncoding, not_released};
use rekey_sources::{CensusColumn, CountedBy, PassToShow, SourceError};
use rekey_store::{
    Unit,
    audit::Record,
    columns::{self, Protected},
    keyrings, rotations,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, Desired, OperationError, STORE_SOURCE, Services, authorise,
    census::counted,
    look::{census_column, declares, key_names},
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

/// Releases a column after a census of its own counted no ciphertext in it. `gone` says that the
/// column or its table was dropped, which the source must confirm: what is not there is not counted.
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
    authorise(principal, Action::Apply)?;
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
        action: "column.released",
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

/// The keyring is held from here on, so that no rotation starts before the column is forgotten.
async fn refuse_live_rotation(unit: &Unit, column: &Protected) -> Result<(), OperationError> {
    let keyring = keyrings::lock(unit, column.keyring_id).await?;
    let rotations = rotations::of_keyring(unit.db(), keyring.id).await?;
    let Some(live) = rotations.iter().find(|one| one.state.0.is_live()) else {
        return Ok(());
    };
    let (id, state) = (live.id, live.state.0);
    let why = format!(
        "rotation {id} of keyring {} is {state} and works on it; release it when that is over",
        keyring.name.0
    );
    Err(refused(&column.spec.name, &why))
}

/// Values in the column, if none of them names a key. Whatever begins as ciphertext counts, as it is
/// lost with its key though no rotation could open it; on SQLite in either encoding. Transactions that
/// are open now might still add some, so none may be left.
async fn count(services: &Services, column: &Protected) -> Result<u64, OperationError> {
    let source = services.source(&column.source).await?;
    let wanted = wanted(column);
    let pass = PassToShow {
        left: vec![HashSet::new(); wanted.len()],
        fence: Some(source.fence().await?),
        ..PassToShow::default()
    };
    let relation = &column.table.relation;
    let counted = match counted(&*source, relation, &wanted, Some(&pass)).await {
        Err(error) if is_gone(&error) => {
            let why =
                format!("nothing was counted: {error}. If it was dropped, say so with --gone");
            return Err(refused(&column.spec.name, &why));
        }
        counted => counted?,
    };
    let values = counted[0].iter().map(|counted| counted.values).sum();
    let found = counted.concat();
    let found: Vec<_> = found.iter().map(|one| (one.found, one.values)).collect();
    match not_released(&found, &key_names(services).await?) {
        Some(why) => Err(refused(&column.spec.name, &why)),
        None => Ok(values),
    }
}

fn wanted(column: &Protected) -> Vec<CensusColumn> {
    let encodings = match column.spec.encoding {
        own if !column.source.url.starts_with("sqlite") => vec![own],
        TextEncoding::Binary => vec![TextEncoding::Binary, TextEncoding::Base64],
        TextEncoding::Base64 => vec![TextEncoding::Base64, TextEncoding::Binary],
    };
    let each = encodings.into_iter().map(|encoding| CensusColumn {
        encoding,
        by: CountedBy::Start,
        ..census_column(column)
    });
    each.collect()
}

async fn check_gone(services: &Services, column: &Protected) -> Result<(), OperationError> {
    let source = services.source(&column.source).await?;
    match source.describe(&column.table.relation).await {
        Err(SourceError::NoSuchTable { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(shape) if shape.column(&column.spec.name.column).is_none() => Ok(()),
        Ok(_) => Err(refused(
            &column.spec.name,
            "it is not gone: leave out --gone, and it is counted",
        )),
    }
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
