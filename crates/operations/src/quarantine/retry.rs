//! Trying values in quarantine again, once what was wrong with them is mended.

use std::collections::BTreeMap;

use rekey_domain::{ColumnName, KeyringName, Principal};
use rekey_store::{
    columns::{self, Protected},
    keyrings,
    quarantine::{self, Quarantined},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    rotations::sweep::{SweepView, ask},
};

/// Which values in quarantine are to be tried again. One that is named takes along what stands in the
/// same table: rows are read by ranges, and written whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// All that are not resolved.
    All,
    /// Those of a keyring.
    OfKeyring(KeyringName),
    /// Those of a protected column.
    OfColumn(ColumnName),
    /// These.
    Values(Vec<Uuid>),
}

/// What tries values of a keyring again: a rotation that reads the rows of the columns that they are of.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineRetry {
    /// The rotation.
    #[serde(flatten)]
    pub sweep: SweepView,
    /// How many values they are.
    pub values: u64,
}

/// Has values in quarantine tried again: asks for a sweep of each of their keyrings, of the columns
/// that they are of. What can be moved then is moved and resolved; the rest stays, with its reason as
/// it is then. Nothing in quarantine: nothing is asked for.
///
/// # Errors
/// [`OperationError::Store`] for a keyring, column or value that is not there, or a keyring without a
/// primary key; [`OperationError::Refused`] where a failed rotation is to be retried first. Of several
/// keyrings, those before it by name were asked for.
pub async fn retry_quarantined(
    services: &Services,
    which: &Retry,
    principal: &Principal,
) -> Result<Vec<QuarantineRetry>, OperationError> {
    crate::authorise(principal, Action::RetryQuarantined)?;
    let protected = columns::all(services.store.db()).await?;
    let values = chosen(services, which, &protected).await?;
    let mut retries = Vec::new();
    for (keyring, columns) in by_keyring(&values, &protected) {
        retries.push(retry(services, &keyring, columns, principal).await?);
    }
    Ok(retries)
}

/// Those of them that are not resolved.
async fn chosen(
    services: &Services,
    which: &Retry,
    protected: &[Protected],
) -> Result<Vec<Quarantined>, OperationError> {
    let db = services.store.db();
    let mut open = quarantine::open(db).await?;
    match which {
        Retry::All => {}
        Retry::OfKeyring(name) => {
            let keyring = keyrings::by_name(db, name).await?.id;
            let of_keyring = |value: &Quarantined| {
                let column = protected.iter().find(|one| one.id == value.column_id);
                column.is_some_and(|column| column.keyring_id == keyring)
            };
            open.retain(of_keyring);
        }
        Retry::OfColumn(name) => {
            let column = columns::by_name(db, &name.to_string()).await?.id;
            open.retain(|value| value.column_id == column);
        }
        Retry::Values(ids) => {
            for id in ids {
                quarantine::by_id(db, *id).await?;
            }
            open.retain(|value| ids.contains(&value.id));
        }
    }
    Ok(open)
}

/// How many values there are of each column, keyring by keyring.
fn by_keyring(
    values: &[Quarantined],
    protected: &[Protected],
) -> BTreeMap<KeyringName, BTreeMap<ColumnName, u64>> {
    let mut keyrings: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
    for value in values {
        // What is no longer protected is read by no rotation.
        let Some(column) = protected.iter().find(|one| one.id == value.column_id) else {
            continue;
        };
        let columns = keyrings.entry(column.spec.keyring.clone()).or_default();
        *columns.entry(column.spec.name.clone()).or_default() += 1;
    }
    keyrings
}

async fn retry(
    services: &Services,
    keyring: &KeyringName,
    columns: BTreeMap<ColumnName, u64>,
    principal: &Principal,
) -> Result<QuarantineRetry, OperationError> {
    let values = columns.values().sum();
    let columns: Vec<_> = columns.into_keys().collect();
    let details = json!({ "because": "quarantine", "values": values });
    let action = Action::RetryQuarantined;
    let sweep = ask(services, keyring, &columns, principal, action, details).await?;
    Ok(QuarantineRetry { sweep, values })
}
