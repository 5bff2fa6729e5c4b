//! Values that could not be re-encrypted: what people see of them, and being done with one.

pub(crate) mod retry;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rekey_domain::{
    AlertKind, BindValue, ColumnName, KeyId, KeyName, KeyState, Principal, QuarantineReason,
};
use rekey_envelope::{Ciphertext, associated_data};
use rekey_store::{
    StoreError, Unit, alerts, audit, columns, keyrings, keys,
    quarantine::{self, Quarantined, ROW_NAME_COLUMN_ID},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, Desired, OperationError, Services,
    access::audited::{Audited, reason, several},
    authorise,
};

/// A value in quarantine as people see it. Never the value.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantineView {
    /// Its id.
    pub id: Uuid,
    /// The protected column.
    pub column: ColumnName,
    /// The row: its primary key, as its source names it; its place where it has none, or where the name
    /// cannot be opened.
    pub row: String,
    /// Where the value stood when it was met: its part and place there, and a hash that tells it from others.
    pub place: String,
    /// Why it could not be re-encrypted.
    pub reason: QuarantineReason,
    /// What more is known of why: the trigger that kept the update from its row, the server's code.
    pub detail: Option<String>,
    /// The key id that its first bytes name, if they name one.
    pub found_key_id: Option<KeyId>,
    /// That key, if it is one of this deployment.
    pub found_key: Option<KeyName>,
    /// Its state.
    pub found_key_state: Option<KeyState>,
    /// The rotation that met it last.
    pub rotation: Uuid,
    /// When that was.
    pub found_at: DateTime<Utc>,
    /// When a person was done with it, or a later rotation no longer met it.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// What is in quarantine and not resolved, the latest last.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn quarantine_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<QuarantineView>, OperationError> {
    authorise(principal, Action::ReadQuarantined)?;
    let mut views = Vec::new();
    for value in quarantine::open(services.store.db()).await? {
        views.push(view(services, value).await?);
    }
    Ok(views)
}

/// One of them, resolved or not.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id.
pub async fn quarantine_view(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<QuarantineView, OperationError> {
    authorise(principal, Action::ReadQuarantined)?;
    view(services, quarantine::by_id(services.store.db(), id).await?).await
}

/// Marks values as resolved: they no longer wait for a person, and the reason is in the audit log. The rows stay as
/// they are; a rotation that meets such a value and still cannot move it lists it again.
///
/// # Errors
/// [`OperationError::Refused`] without a reason; [`OperationError::Store`] for an id that does not exist or is
/// resolved. Then no value is resolved.
pub async fn resolve_quarantined(
    services: &Services,
    ids: &[Uuid],
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    let because = reason(because, "a value in quarantine is resolved")?;
    let asked = Audited::begin(services, principal, Action::ResolveQuarantined).await?;
    let (mut values, mut late) = (Vec::new(), HashSet::new());
    for id in ids {
        let value = quarantine::resolve(&asked.unit, *id).await?;
        values.push(json!({ "id": id, "place": value.row_key, "reason": value.reason() }));
        if value.reason() == QuarantineReason::WrittenAfterCompromise {
            late.extend(value.found());
        }
    }
    for key in late {
        clear_where_none_is_left(&asked.unit, key).await?;
    }
    let details = json!({ "because": because, "values": values });
    asked
        .commit(
            audit::Action::QuarantineResolved,
            &several(ids, "values"),
            details,
        )
        .await
}

/// The alert about values that came late under a key ends with the last of them.
async fn clear_where_none_is_left(unit: &Unit, key: KeyId) -> Result<(), OperationError> {
    if quarantine::has_late(unit.db(), key).await? {
        return Ok(());
    }
    let Some(key) = keys::find(unit.db(), key).await? else {
        return Ok(());
    };
    let keyring = keyrings::by_id(unit.db(), key.keyring_id).await?;
    let name = key.name(&keyring).to_string();
    Ok(alerts::clear(unit, AlertKind::WrittenAfterCompromise, &name).await?)
}

/// What people know its row by. Where no key opens it, the place has to do.
async fn row_name(services: &Services, value: &Quarantined) -> Result<String, OperationError> {
    let place = || value.row_key.clone();
    let sealed = value.row_name.as_deref().map(Ciphertext::parse);
    let Some(Ok(sealed)) = sealed else {
        return Ok(place());
    };
    let audit = Desired::audit_keyring().name;
    let key = match services
        .client
        .decryption_key(&audit, sealed.key_id())
        .await
    {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!(%error, "the names of rows in quarantine cannot be opened");
            return Ok(place());
        }
    };
    let bound = associated_data(
        ROW_NAME_COLUMN_ID,
        &[BindValue::from(value.row_key.as_str())],
    );
    let name = key.decrypt(&sealed, &bound).ok();
    let name = name.and_then(|name| String::from_utf8(name.to_vec()).ok());
    Ok(name.unwrap_or_else(place))
}

async fn view(services: &Services, value: Quarantined) -> Result<QuarantineView, OperationError> {
    let db = services.store.db();
    let all = columns::all(db).await?;
    let column = all.into_iter().find(|column| column.id == value.column_id);
    let column = column.ok_or_else(|| StoreError::Unknown {
        what: format!("the column of value {} in quarantine", value.id),
        known: Vec::new(),
    })?;
    let found_key_id = value.found();
    let (mut found_key, mut found_key_state) = (None, None);
    if let Some(id) = found_key_id
        && let Some(key) = keys::find(db, id).await?
    {
        found_key = Some(key.name(&keyrings::by_id(db, key.keyring_id).await?));
        found_key_state = Some(key.state);
    }
    Ok(QuarantineView {
        id: value.id,
        column: column.spec.name,
        row: row_name(services, &value).await?,
        reason: value.reason(),
        place: value.row_key,
        detail: value.detail,
        found_key_id,
        found_key,
        found_key_state,
        rotation: value.rotation_id,
        found_at: value.found_at,
        resolved_at: value.resolved_at,
    })
}
