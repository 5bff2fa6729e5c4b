//! Rotations as people see them. Reads only.

use std::num::NonZeroU64;

use chrono::{DateTime, Utc};
use rekey_domain::{ColumnName, KeyName, Principal, RotationKind, RotationState};
use rekey_envelope::JwkSet;
use rekey_store::{
    batches, columns, dead_letters, keyrings,
    progress::{self, Progress},
    rotations,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services, authorise,
    certificates::{self, Signature},
    keys::views::key_name,
    work::workers,
};

/// A rotation as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct RotationView {
    /// Its id.
    pub id: Uuid,
    /// Its keyring.
    pub keyring: String,
    /// Whether it makes a switch.
    pub kind: RotationKind,
    /// The columns that a sweep is limited to, with what else of the keyring stands in their rows;
    /// none: all that its keyring protects.
    pub columns: Vec<ColumnName>,
    /// Where it stands.
    pub state: RotationState,
    /// Why it was asked for.
    pub reason: String,
    /// Whether its batches overtake all others.
    pub urgent: bool,
    /// Who asked.
    pub principal: String,
    /// The key it moves to.
    pub target: Option<KeyName>,
    /// How many times its ranges were gone over.
    pub passes: u32,
    /// Batches of the present pass that are done.
    pub batches_done: u64,
    /// Batches of the present pass.
    pub batches: u64,
    /// Rows written.
    pub rows: u64,
    /// Values moved.
    pub moved: u64,
    /// Rows the application changed under our hands; moved or left to it.
    pub conflicts: u64,
    /// Values in quarantine.
    pub quarantined: u64,
    /// What it waits for.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What it or its batches wait for, if they do; they go on by themselves.
    pub waiting: Vec<String>,
    /// Since when its census waits for what may never end by itself.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Rows after which it pauses, if it was asked to and has not yet.
    pub pause_after: Option<u64>,
    /// The column whose rows go first, if it was asked to and they have not yet.
    pub only: Option<ColumnName>,
    /// Whether it is for values under keys that this store never had.
    #[serde(skip)]
    pub unknown_keys: bool,
    /// Why it is on hold, if it is.
    pub paused_because: Option<String>,
    /// Why it was cancelled.
    pub cancelled_because: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Its certificate, once completed.
    pub certificate: Option<serde_json::Value>,
    /// Whether that is signed.
    pub certificate_signature: Option<Signature>,
}

/// Every rotation, latest first.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn rotation_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<RotationView>, OperationError> {
    authorise(principal, Action::ReadRotations)?;
    let keys = certificates::key_set(services).await?;
    let mut views = Vec::new();
    for rotation in rotations::all(services.store.db()).await? {
        views.push(view(services, rotation, &keys).await?);
    }
    Ok(views)
}

/// One rotation.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id.
pub async fn rotation_view(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<RotationView, OperationError> {
    authorise(principal, Action::ReadRotations)?;
    let rotation = rotations::by_id(services.store.db(), id).await?;
    let keys = certificates::key_set(services).await?;
    view(services, rotation, &keys).await
}

/// The rotation that a request led to, once it was taken up; where that was superseded, the one that
/// took its rows along.
///
/// # Errors
/// [`OperationError::Refused`] when the request was given up.
pub async fn requested_rotation(
    services: &Services,
    event: &str,
    principal: &Principal,
) -> Result<Option<RotationView>, OperationError> {
    authorise(principal, Action::ReadRotations)?;
    let db = services.store.db();
    let Some(id) = rotations::of_request(db, event).await? else {
        let why = dead_letters::why(db, event).await?;
        return why.map_or(Ok(None), |why| Err(OperationError::Refused(why)));
    };
    let mut rotation = rotations::by_id(db, id).await?;
    if rotation.state == RotationState::Superseded {
        let latest = rotations::latest(db, rotation.keyring_id).await?;
        rotation = latest.unwrap_or(rotation);
    }
    let keys = certificates::key_set(services).await?;
    Ok(Some(view(services, rotation, &keys).await?))
}

pub(crate) async fn view(
    services: &Services,
    rotation: rotations::Rotation,
    keys: &JwkSet,
) -> Result<RotationView, OperationError> {
    let db = services.store.db();
    let keyring = keyrings::by_id(db, rotation.keyring_id).await?;
    let Progress {
        tally,
        batches,
        done,
    } = progress::of(db, &rotation).await?;
    let goes_on = !rotation.paused && rotation.state.is_live();
    let (mut waiting, mut waiting_since) = (Vec::new(), None);
    if goes_on {
        waiting = batches::waiting(db, &rotation).await?;
        waiting.extend(rotation.waiting_because.clone());
        let of_batches = batches::waiting_since(db, &rotation).await?;
        waiting_since = rotation.waiting_since.into_iter().chain(of_batches).min();
        let columns = columns::of_keyring(db, rotation.keyring_id).await?;
        let sources: Vec<_> = columns.iter().map(|one| one.source.name.as_str()).collect();
        waiting.extend(workers::problems_with(services, &sources).await?);
    }
    let canary = rotation.canary();
    let (certificate, certificate_signature) = certificates::shown(&rotation, keys);
    Ok(RotationView {
        id: rotation.id,
        certificate_signature,
        target: key_name(services, &keyring, rotation.target_key_id).await?,
        keyring: keyring.name.to_string(),
        kind: rotation.kind,
        passes: rotation.passes(),
        columns: rotation.sweep_columns.unwrap_or_default(),
        state: rotation.state,
        reason: rotation.reason.to_string(),
        urgent: rotation.urgent,
        principal: rotation.principal.to_string(),
        batches_done: done,
        batches,
        rows: tally.rows,
        moved: tally.moved,
        conflicts: tally.conflicts,
        quarantined: tally.quarantined,
        due_at: rotation.due_at,
        requested_at: rotation.requested_at,
        ended_at: rotation.ended_at,
        waiting,
        waiting_since: waiting_since.and_then(DateTime::from_timestamp_millis),
        pause_after: canary.pause_after.map(NonZeroU64::get),
        only: canary.only,
        unknown_keys: rotation.unknown_keys_accepted == Some(false),
        paused_because: rotation.paused_because,
        cancelled_because: rotation.cancelled_because,
        failure: rotation.failure,
        certificate,
    })
}
