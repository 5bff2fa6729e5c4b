//! What people and programs are shown: keys, rotations, status. Reads only.

use std::num::NonZeroU64;

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{
    Algorithm, ColumnName, HARD_LIMIT, KeyId, KeyName, KeyState, RotationKind, RotationState,
    forecast,
};
use rekey_store::{
    StoreError, batches, certificates, dead_letters,
    keyrings::{self, Keyring},
    keys::{self, Key},
    outbox,
    progress::{self, Progress},
    quarantine, rotations,
    stored::Json,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    OperationError, Services,
    certificates::{Signature, signature},
    keys::master::unopened,
    rotations::stragglers,
    work::workers::{self, WorkerView, worker_problems, worker_views},
};

/// Transactions that a census waits for end by then; later a person looks whose they are.
const COUNTED_WITHIN: TimeDelta = TimeDelta::hours(1);
/// What is signed by itself is signed by then; later a person looks why not.
const SIGNED_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// A key as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    /// `phi/3`.
    pub key: KeyName,
    /// Its id in ciphertext.
    pub key_id: KeyId,
    /// How it encrypts.
    pub algorithm: Algorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// Encryptions counted, blocks that were lost included.
    pub used: u64,
    /// Those of them that were no re-encryption.
    pub used_by_applications: u64,
    /// Encryptions that may ever be made under it (SP 800-38D §8.3).
    pub limit: u64,
    /// Encryptions by applications after which its keyring rotates itself.
    pub max_encryptions: u64,
    /// Encryptions by applications a day, on average since it became primary; none: it is not, or not
    /// long enough to tell.
    pub used_per_day: Option<u64>,
    /// When its keyring will rotate itself for their number, at this rate.
    pub max_reached_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires, once it is primary.
    pub expires_at: Option<DateTime<Utc>>,
}

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

/// One screen.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Every keyring's primary, if it has one.
    pub keyrings: Vec<(String, Option<KeyName>)>,
    /// Who works.
    pub workers: Vec<WorkerView>,
    /// Rotations that are not over.
    pub rotations: Vec<RotationView>,
    /// Values in quarantine.
    pub quarantined: u64,
    /// Messages given up.
    pub dead_letters: u64,
    /// Messages waiting.
    pub outbox: u64,
    /// Rotations whose certificate waits for its signature.
    pub unsigned_certificates: Vec<Uuid>,
    /// What needs a person; empty: nothing does.
    pub needs_a_person: Vec<String>,
}

/// Every key, keyring by keyring.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn key_views(services: &Services) -> Result<Vec<KeyView>, OperationError> {
    let mut views = Vec::new();
    let now = services.store.now().await?;
    for keyring in keyrings::all(services.store.db()).await? {
        let keys = keys::of_keyring(services.store.db(), keyring.id).await?;
        views.extend(keys.iter().map(|key| key_view(key, &keyring, now)));
    }
    Ok(views)
}

fn key_view(key: &Key, keyring: &Keyring, now: DateTime<Utc>) -> KeyView {
    let used_by_applications = key.used_by_applications.unsigned_abs();
    let max_encryptions = keyring.policy.0.max_encryptions;
    let primary_since = key.activated_at.filter(|_| key.state.0 == KeyState::Active);
    let ahead =
        primary_since.and_then(|since| forecast(used_by_applications, max_encryptions, since, now));
    KeyView {
        key: key.name(keyring),
        key_id: key.id(),
        algorithm: key.algorithm.0,
        state: key.state.0,
        used: key.used.unsigned_abs(),
        used_by_applications,
        limit: HARD_LIMIT,
        max_encryptions,
        used_per_day: ahead.map(|ahead| ahead.per_day),
        max_reached_at: ahead.and_then(|ahead| ahead.reached_at),
        created_at: key.created_at,
        expires_at: key.expires_at,
    }
}

/// Every rotation, latest first.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn rotation_views(services: &Services) -> Result<Vec<RotationView>, OperationError> {
    let mut views = Vec::new();
    for rotation in rotations::all(services.store.db()).await? {
        views.push(view(services, rotation).await?);
    }
    Ok(views)
}

/// One rotation.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id.
pub async fn rotation_view(services: &Services, id: Uuid) -> Result<RotationView, OperationError> {
    view(services, rotations::by_id(services.store.db(), id).await?).await
}

/// The rotation that a request led to, once it was taken up; where that was superseded, the one that
/// took its rows along.
///
/// # Errors
/// [`OperationError::Refused`] when the request was given up.
pub async fn requested_rotation(
    services: &Services,
    event: &str,
) -> Result<Option<RotationView>, OperationError> {
    let db = services.store.db();
    let Some(id) = rotations::of_request(db, event).await? else {
        let why = dead_letters::why(db, event).await?;
        return why.map_or(Ok(None), |why| Err(OperationError::Refused(why)));
    };
    let mut rotation = rotations::by_id(db, id).await?;
    if rotation.state.0 == RotationState::Superseded {
        let of_keyring = rotations::of_keyring(db, rotation.keyring_id).await?;
        rotation = of_keyring.into_iter().next().unwrap_or(rotation);
    }
    Ok(Some(view(services, rotation).await?))
}

async fn view(
    services: &Services,
    rotation: rotations::Rotation,
) -> Result<RotationView, OperationError> {
    let db = services.store.db();
    let keyring = keyrings::by_id(db, rotation.keyring_id).await?;
    let Progress {
        tally,
        batches,
        done,
    } = progress::of(db, &rotation).await?;
    let goes_on = !rotation.paused && rotation.state.0.is_live();
    let (mut waiting, mut waiting_since) = (Vec::new(), None);
    if goes_on {
        waiting = batches::waiting(db, &rotation).await?;
        waiting.extend(rotation.waiting_because.clone());
        let of_batches = batches::waiting_since(db, &rotation).await?;
        waiting_since = rotation.waiting_since.into_iter().chain(of_batches).min();
        waiting.extend(worker_problems(services).await?);
    }
    let canary = rotation.canary();
    Ok(RotationView {
        id: rotation.id,
        certificate_signature: signature(&rotation),
        target: key_name(services, &keyring, rotation.target_key_id).await?,
        keyring: keyring.name.0.to_string(),
        kind: rotation.kind.0,
        columns: rotation
            .sweep_columns
            .map_or_else(Vec::new, |Json(columns)| columns),
        state: rotation.state.0,
        reason: rotation.reason.0.to_string(),
        urgent: rotation.urgent,
        principal: rotation.principal.0.to_string(),
        passes: rotation.pass.unsigned_abs() + 1,
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
        paused_because: rotation.paused_because,
        cancelled_because: rotation.cancelled_because,
        failure: rotation.failure,
        certificate: rotation
            .certificate
            .and_then(|text| serde_json::from_str(&text).ok()),
    })
}

async fn key_name(
    services: &Services,
    keyring: &Keyring,
    id: Option<i64>,
) -> Result<Option<KeyName>, StoreError> {
    let Some(id) = id.and_then(|id| u32::try_from(id).ok()) else {
        return Ok(None);
    };
    let key = keys::find(services.store.db(), KeyId::new(id)).await?;
    Ok(key.map(|key| key.name(keyring)))
}

/// One screen of how things stand, and what needs a person.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn status(services: &Services) -> Result<Status, OperationError> {
    let db = services.store.db();
    let mut keyrings = Vec::new();
    for keyring in keyrings::all(db).await? {
        let primary = key_name(services, &keyring, keyring.primary_key_id).await?;
        keyrings.push((keyring.name.0.to_string(), primary));
    }
    let mut rotations = Vec::new();
    for rotation in rotations::not_over(db).await? {
        rotations.push(view(services, rotation).await?);
    }
    let quarantined = quarantine::count_open(db).await?;
    let dead_letters = dead_letters::count_open(db).await?;
    let unsigned = certificates::unsigned(db).await?;
    let mut status = Status {
        keyrings,
        workers: worker_views(services).await?,
        rotations,
        quarantined,
        dead_letters,
        outbox: outbox::depth(&services.store).await?,
        unsigned_certificates: unsigned.iter().map(|rotation| rotation.id).collect(),
        needs_a_person: Vec::new(),
    };
    status.needs_a_person = needs(&status);
    status
        .needs_a_person
        .extend(workers::problems(&status.workers));
    status
        .needs_a_person
        .extend(stragglers::problems(services).await?);
    let unopened = unopened(services).await?;
    let unopened = unopened.iter().map(ToString::to_string);
    status.needs_a_person.extend(unopened);
    let now = services.store.now().await?;
    status.needs_a_person.extend(stuck(&status, now));
    let late = now - SIGNED_WITHIN;
    let overdue = unsigned
        .iter()
        .filter(|one| one.ended_at.is_some_and(|ended| ended < late));
    status.needs_a_person.extend(overdue.map(|rotation| {
        format!(
            "the certificate of rotation {} is unsigned: see that the rotators reach the KMS and keyring signing has a primary key; it is signed by itself then",
            rotation.id
        )
    }));
    Ok(status)
}

/// Rotations that wait for what should have ended long ago.
fn stuck(status: &Status, now: DateTime<Utc>) -> Vec<String> {
    let late = now - COUNTED_WITHIN;
    let waits = |one: &&RotationView| one.waiting_since.is_some_and(|since| since < late);
    let stuck = status.rotations.iter().filter(waits);
    let say = |one: &RotationView| {
        let (kind, id, what) = (one.kind.noun(), one.id, one.waiting.join("; "));
        format!("{kind} {id} has waited for over an hour: {what}")
    };
    stuck.map(say).collect()
}

fn needs(status: &Status) -> Vec<String> {
    let mut needs = Vec::new();
    let primaryless = status
        .keyrings
        .iter()
        .filter(|(_, primary)| primary.is_none());
    needs.extend(
        primaryless.map(|(name, _)| {
            format!("keyring {name} has no primary key: nothing can be encrypted")
        }),
    );
    let failed = status
        .rotations
        .iter()
        .filter(|rotation| rotation.state == RotationState::Failed);
    needs.extend(failed.map(|rotation| {
        let why = rotation
            .failure
            .as_deref()
            .unwrap_or("batches were given up");
        format!(
            "{} {} failed ({why}): mend the cause, then rekey rotations retry {}",
            rotation.kind.noun(),
            rotation.id,
            rotation.id
        )
    }));
    let paused = status.rotations.iter();
    needs.extend(paused.filter_map(|rotation| {
        let why = rotation.paused_because.as_deref()?;
        let (kind, id) = (rotation.kind.noun(), rotation.id);
        Some(format!(
            "{kind} {id} is paused ({why}); to go on: rekey rotations resume {id}"
        ))
    }));
    if status.quarantined > 0 {
        needs.push(format!(
            "{} value(s) in quarantine: rekey quarantine list",
            status.quarantined
        ));
    }
    if status.dead_letters > 0 {
        needs.push(format!(
            "{} dead letter(s): rekey dead-letters list",
            status.dead_letters
        ));
    }
    needs
}
