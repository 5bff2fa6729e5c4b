//! Trying values in quarantine again, once what was wrong with them is mended.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekey_domain::{
    ColumnName, KeyringName, Principal, RotationKind, RotationReason, RotationState,
};
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
    audited::Audited,
    sweep::{SweepOutcome, sweep},
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

/// What tries values of a keyring again.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineRetry {
    /// The keyring.
    pub keyring: KeyringName,
    /// The rotation that does it.
    pub rotation: Uuid,
    /// Whether it makes a switch.
    pub kind: RotationKind,
    /// Where it stands.
    pub state: RotationState,
    /// What the request came to.
    pub outcome: SweepOutcome,
    /// The columns that they are of.
    pub columns: Vec<ColumnName>,
    /// How many they are.
    pub values: u64,
    /// When its grace period ends, if that is waited for and known.
    pub not_before: Option<DateTime<Utc>>,
    /// Why it is on hold, if it is.
    pub paused_because: Option<String>,
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
    let id = keyrings::by_name(services.store.db(), keyring).await?.id;
    let values = columns.values().sum();
    let columns: Vec<_> = columns.into_keys().collect();
    let asked = Audited::begin(services, principal, Action::RetryQuarantined).await?;
    let reason = RotationReason::Request;
    let (rotation, outcome) = sweep(&asked.unit, id, &columns, reason, principal).await?;
    let subject = rotation.id.to_string();
    let (action, subject) = match outcome {
        SweepOutcome::Started => ("sweep.started", keyring.as_str()),
        // So that it stands on that rotation's certificate.
        SweepOutcome::Joined | SweepOutcome::AnotherPass => ("sweep.joined", subject.as_str()),
    };
    let details = json!({
        "rotation": rotation.id,
        "keyring": keyring,
        "because": "quarantine",
        "outcome": outcome,
        "columns": columns,
        "values": values,
    });
    asked.commit(action, subject, details).await?;
    tracing::info!(%keyring, rotation = %rotation.id, action, "values in quarantine are tried again");
    let in_grace = rotation.state.0 == RotationState::Grace;
    Ok(QuarantineRetry {
        keyring: keyring.clone(),
        rotation: rotation.id,
        kind: rotation.kind.0,
        state: rotation.state.0,
        outcome,
        columns,
        values,
        not_before: rotation.due_at.filter(|_| in_grace),
        paused_because: rotation.paused.then(|| {
            let why = rotation.paused_because;
            why.unwrap_or_else(|| "no reason given".to_owned())
        }),
    })
}
