//! Trying values in quarantine again, once what was wrong with them is mended.

use std::collections::{BTreeMap, HashSet};

use rekey_domain::{ColumnName, KeyringName, Principal, QuarantineReason};
use rekey_store::{
    audit,
    columns::{self, Protected},
    keyrings, keys,
    quarantine::{self, Quarantined},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    access::audited::{Audited, several},
    rotations::sweep::{SweepView, ask},
};

/// The values in quarantine to try again. Other values of their tables are tried along, as rows are read by ranges and
/// written whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// All that are not resolved. Of none but those that are named one by one is anything moved that was written after
    /// its key was compromised.
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

/// Has values in quarantine tried again by asking for a sweep of each of their keyrings, of the columns they are in.
/// Values that can be moved then are moved and resolved; the others stay, with their reason as of then. If nothing is
/// in quarantine, asks for nothing.
///
/// # Errors
/// [`OperationError::Store`] for a keyring, column or value that is not there, or a keyring without a
/// primary key; [`OperationError::Refused`] where a failed rotation is to be retried first. Earlier keyrings, by name,
/// were asked for already.
pub async fn retry_quarantined(
    services: &Services,
    which: &Retry,
    principal: &Principal,
) -> Result<Vec<QuarantineRetry>, OperationError> {
    crate::authorise(principal, Action::RetryQuarantined)?;
    let protected = columns::all(services.store.db()).await?;
    let values = chosen(services, which, &protected).await?;
    if let Retry::Values(_) = which {
        release(services, &values, principal).await?;
    }
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

/// Has those moved all the same that were written after their key was compromised: whoever names one has looked at it.
async fn release(
    services: &Services,
    values: &[Quarantined],
    principal: &Principal,
) -> Result<(), OperationError> {
    let is_late = |value: &&Quarantined| value.reason() == QuarantineReason::WrittenAfterCompromise;
    let late: Vec<_> = values.iter().filter(is_late).collect();
    if late.is_empty() {
        return Ok(());
    }
    let asked = Audited::begin(services, principal, Action::RetryQuarantined).await?;
    let ids: Vec<_> = late.iter().map(|value| value.id).collect();
    quarantine::release(&asked.unit, &ids).await?;
    for id in late
        .iter()
        .filter_map(|value| value.found())
        .collect::<HashSet<_>>()
    {
        if let Some(key) = keys::find(asked.unit.db(), id).await? {
            // What was empty is handed out no more, and has to be, for these.
            keys::no_longer_empty(&asked.unit, &key).await?;
        }
    }
    let released = late
        .iter()
        .map(|value| json!({ "id": value.id, "place": value.row_key }));
    let details = json!({ "values": released.collect::<Vec<_>>() });
    let (action, subject) = (audit::Action::QuarantineReleased, several(&ids, "values"));
    asked.commit(action, &subject, details).await
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
