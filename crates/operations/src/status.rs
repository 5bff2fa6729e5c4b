//! One screen of how things stand, and what needs a person. Reads only.

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{
    AlertKind, BackupPolicy, IncidentState, KeyName, KeyState, KeyringName, PASSES_AT_ONCE,
    Principal, RotationState, Severity,
};
use rekey_store::{
    ConnectionTrait, StoreError, certificates, dead_letters, keyrings,
    keys::{self, suspension},
    outbox, quarantine, rotations,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Action, AlertView, DestinationView, IncidentView, OperationError, RotationView, Services,
    authorise,
    backups::views::places,
    certificates::key_set,
    incidents::{
        left,
        views::{raised, unresolved},
    },
    keys::master::unopened,
    recovery::whole::UNDER_WAY,
    rotations::{stragglers, views::view},
    work::workers::{self, WorkerView},
};

/// Transactions that a census waits for end by then; later a person looks whose they are.
const COUNTED_WITHIN: TimeDelta = TimeDelta::hours(1);
/// What is signed by itself is signed by then; later a person looks why not.
const SIGNED_WITHIN: TimeDelta = TimeDelta::minutes(5);

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
    /// Where keys are backed up.
    pub destinations: Vec<DestinationView>,
    /// Keyrings whose keys need no backup.
    pub without_backup: Vec<KeyringName>,
    /// Incidents that nobody has resolved.
    pub incidents: Vec<IncidentView>,
    /// Alerts that are raised.
    pub alerts: Vec<AlertView>,
    /// Rotations whose certificate waits for its signature.
    pub unsigned_certificates: Vec<Uuid>,
    /// What needs a person; empty: nothing does.
    pub needs_a_person: Vec<String>,
}

/// One screen of how things stand, and what needs a person.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn status(services: &Services, principal: &Principal) -> Result<Status, OperationError> {
    authorise(principal, Action::ReadStatus)?;
    let db = services.store.db();
    let (mut keyrings, mut without_backup) = (Vec::new(), Vec::new());
    for keyring in keyrings::all(db).await? {
        if keyring.policy.backup == BackupPolicy::Off {
            without_backup.push(keyring.name.clone());
        }
        let primary = match keyring.primary_key_id {
            Some(id) => keys::find(db, id).await?,
            None => None,
        };
        // A compromised key that nothing could replace yet encrypts nothing.
        let primary = primary.filter(|key| key.state == KeyState::Active);
        let primary = primary.map(|key| key.name(&keyring));
        keyrings.push((keyring.name.to_string(), primary));
    }
    let published = key_set(services).await?;
    let mut rotations = Vec::new();
    for rotation in rotations::not_over(db).await? {
        rotations.push(view(services, rotation, &published).await?);
    }
    let quarantined = quarantine::count_open(db).await?;
    let dead_letters = dead_letters::count_open(db).await?;
    let unsigned = certificates::unsigned(db).await?;
    let mut status = Status {
        keyrings,
        workers: workers::all(services).await?,
        rotations,
        quarantined,
        dead_letters,
        outbox: outbox::depth(&services.store).await?,
        destinations: places(services).await?,
        without_backup,
        incidents: unresolved(services).await?,
        alerts: raised(services).await?,
        unsigned_certificates: unsigned.iter().map(|rotation| rotation.id).collect(),
        needs_a_person: Vec::new(),
    };
    status.needs_a_person = suspended(db).await?.into_iter().collect();
    let needs = needs(&status);
    status.needs_a_person.extend(needs);
    status
        .needs_a_person
        .extend(workers::problems(services, &status.workers).await?);
    status
        .needs_a_person
        .extend(stragglers::problems(services).await?);
    status.needs_a_person.extend(left::problems(db).await?);
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

/// Why nothing is encrypted, where that is so.
async fn suspended(db: &impl ConnectionTrait) -> Result<Option<String>, StoreError> {
    let suspended = suspension::suspension(db).await?;
    Ok(suspended.map(|suspended| {
        let helps = match suspended.because == UNDER_WAY {
            true => "",
            false => "; rekey restore --reconcile --plan says what would be done",
        };
        format!(
            "nothing is encrypted since {}: {}{helps}",
            suspended.at.format("%Y-%m-%d %H:%M:%S UTC"),
            suspended.because
        )
    }))
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

/// Incidents that nobody has acknowledged, and alerts that press.
fn untold(status: &Status) -> Vec<String> {
    let incidents = status.incidents.iter();
    let say = |incident: &IncidentView| {
        if let Some(needs) = &incident.needs {
            return Some(format!("incident {}: {needs}", incident.id));
        }
        let id = incident.id;
        let key = incident.key.as_ref().map(ToString::to_string);
        let key = key.unwrap_or_else(|| incident.key_id.to_string());
        (incident.state == IncidentState::Open).then(|| {
            format!("incident {id}: key {key} was reported compromised; rekey incidents show {id}, then rekey incidents acknowledge {id}")
        })
    };
    let pressing = status.alerts.iter();
    let pressing = pressing.filter(|alert| {
        let presses = alert.severity >= Severity::High && alert.acknowledged_by.is_none();
        presses && !is_said_below(alert.kind)
    });
    let alerts = pressing.map(|alert| {
        let (says, id) = (&alert.says, alert.id);
        format!("{says}; seen it: rekey alerts acknowledge {id}")
    });
    incidents.filter_map(say).chain(alerts).collect()
}

/// What the other lines say in more words.
fn is_said_below(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::NoPrimary
            | AlertKind::StoreRolledBack
            | AlertKind::LeftUnderCompromised
            | AlertKind::RotationFailed
            | AlertKind::RotationStalled
            | AlertKind::QuarantineNotEmpty
            | AlertKind::CertificateUnsigned
            | AlertKind::DeadLetters
            | AlertKind::WorkerSilent
            | AlertKind::KmsAway
            | AlertKind::SourceAway
    )
}

fn needs(status: &Status) -> Vec<String> {
    let mut needs = untold(status);
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
    let comes_back = status.rotations.iter();
    let comes_back = comes_back.filter(|rotation| rotation.passes > PASSES_AT_ONCE);
    needs.extend(comes_back.map(|rotation| {
        let (kind, id, passes) = (rotation.kind.noun(), rotation.id, rotation.passes);
        format!(
            "{kind} {id} goes over its rows for the {passes}th time, as values under an old key were found again and again: see what writes them, such as a trigger that keeps old rows in the same table"
        )
    }));
    let paused = status.rotations.iter();
    needs.extend(paused.filter_map(|rotation| {
        let why = rotation.paused_because.as_deref()?;
        let (kind, id) = (rotation.kind.noun(), rotation.id);
        let accept = match rotation.unknown_keys {
            true => " --accept-unknown-keys",
            false => "",
        };
        Some(format!(
            "{kind} {id} is paused ({why}); to go on: rekey rotations resume {id}{accept}"
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
