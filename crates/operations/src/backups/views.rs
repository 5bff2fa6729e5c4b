//! Backups as people see them: each key at each destination, and what its last drill found. Reads only.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rekey_backups::RecoveryPublicKey;
use rekey_domain::{
    BackupProblem, DestinationName, Erasable, KeyId, KeyName, KeyRef, KeyState, PROOF_LASTS,
    Principal,
};
use rekey_store::{
    StoreError,
    backups::{
        bundles::{self, Backup},
        deployments, destinations,
        drills::{self, Drill},
        recovery_keys::{self, StoredRecoveryKey},
    },
    keyrings, keys,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services, authorise, backups::due::is_backed_up, keys::named::named,
};

/// A key's backup at a destination.
#[derive(Debug, Clone, Serialize)]
pub struct BackupView {
    /// The key.
    pub key: KeyName,
    /// Its id.
    pub key_id: KeyId,
    /// Its state.
    pub state: KeyState,
    /// Where.
    pub destination: DestinationName,
    /// The newest bundle; none: nothing was stored yet.
    pub bundle: Option<String>,
    /// When it was stored.
    pub stored_at: Option<DateTime<Utc>>,
    /// The BACKUP key that opens it.
    pub backup_key: Option<String>,
    /// The RECOVERY key that opens it.
    pub recovery: Option<String>,
    /// When a drill last brought the key back.
    pub proved_at: Option<DateTime<Utc>>,
    /// Whether that is so recent that it is believed.
    pub is_fresh: bool,
    /// When the last drill was, or the last attempt to store.
    pub tried_at: Option<DateTime<Utc>>,
    /// What was wrong with the last drill.
    pub problem: Option<BackupProblem>,
    /// Since when that is so.
    pub since: Option<DateTime<Utc>>,
    /// How long the last drill took, in milliseconds.
    pub millis: Option<u64>,
    /// Values of protected columns that the restored key opened.
    pub opened: Option<u64>,
}

/// The deployment's own bundle at a destination: what the store knows beside keys.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentBackupView {
    /// Where.
    pub destination: DestinationName,
    /// Its name there; none: nothing was stored yet.
    pub bundle: Option<String>,
    /// When a drill last brought it back.
    pub proved_at: Option<DateTime<Utc>>,
    /// What was wrong with the last drill.
    pub problem: Option<BackupProblem>,
}

/// A destination.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationView {
    /// Its name.
    pub destination: DestinationName,
    /// Where this process reaches it; none: it was not told.
    pub place: Option<String>,
    /// Whether the verifier could erase what is there; none: nobody tried yet.
    pub erasable: Option<Erasable>,
}

/// All that is known of a key's backups.
#[derive(Debug, Clone, Serialize)]
pub struct KeyBackups {
    /// The newest at each destination.
    pub backups: Vec<BackupView>,
    /// Every bundle that stands somewhere, the one last confirmed first.
    pub bundles: Vec<BundleView>,
    /// The drills, the last first.
    pub drills: Vec<DrillView>,
}

/// A bundle at a destination.
#[derive(Debug, Clone, Serialize)]
pub struct BundleView {
    /// Where.
    pub destination: DestinationName,
    /// Its name there.
    pub bundle: String,
    /// When it was stored.
    pub stored_at: DateTime<Utc>,
    /// When it was last what a new bundle would be.
    pub confirmed_at: DateTime<Utc>,
}

/// A drill, or several in a row that found the same.
#[derive(Debug, Clone, Serialize)]
pub struct DrillView {
    /// Its id.
    pub id: Uuid,
    /// Where.
    pub destination: DestinationName,
    /// The bundle.
    pub bundle: Option<String>,
    /// What was wrong; none: the key came back.
    pub problem: Option<BackupProblem>,
    /// The first time.
    pub began_at: DateTime<Utc>,
    /// The last time.
    pub last_at: DateTime<Utc>,
    /// How often.
    pub times: u32,
}

/// A RECOVERY key.
#[derive(Debug, Clone, Serialize)]
pub struct RecoveryKeyView {
    /// What it is called by.
    pub fingerprint: String,
    /// The set of its shares.
    pub share_set: Uuid,
    /// How many shares make it again.
    pub threshold: u32,
    /// How many there are.
    pub shares: u32,
    /// Who made it.
    pub made_by: Principal,
    /// When.
    pub made_at: DateTime<Utc>,
    /// Whether bundles are sealed to it by this process.
    pub trusted_here: bool,
}

/// The backups of every key that is to have one.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn backup_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<BackupView>, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    let db = services.store.db();
    let (bundles, drills) = (bundles::all(db).await?, drills::all(db).await?);
    Ok(all(services, &bundles, &drills).await?)
}

/// The deployment's own bundle at each destination.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn deployment_backup_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<DeploymentBackupView>, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    let db = services.store.db();
    let declared = destinations::all(db).await?;
    let all = deployments::all(db).await?;
    let view = |at: destinations::Destination| {
        let known = all.iter().find(|one| one.destination == at.name);
        let stored = known.and_then(|one| one.stored.as_ref());
        DeploymentBackupView {
            bundle: stored.map(|stored| stored.name.clone()),
            proved_at: known.and_then(|one| one.proved_at),
            problem: known.and_then(|one| one.problem),
            destination: at.name,
        }
    };
    Ok(declared.into_iter().map(view).collect())
}

/// The destinations, by name.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn destination_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<DestinationView>, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    Ok(places(services).await?)
}

/// A proof is as old as the gate takes one, and not of the future.
fn is_fresh(proved_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - PROOF_LASTS..=now).contains(&proved_at)
}

/// Whether nobody put another key there.
fn is_of(public_key: &[u8], fingerprint: &str) -> bool {
    let key = RecoveryPublicKey::try_from(public_key);
    key.is_ok_and(|key| key.fingerprint().to_string() == fingerprint)
}

/// Where bundles are kept.
pub(crate) async fn places(services: &Services) -> Result<Vec<DestinationView>, StoreError> {
    let all = destinations::all(services.store.db()).await?.into_iter();
    let view = |one: destinations::Destination| DestinationView {
        place: services.backups.url(&one.name).map(ToString::to_string),
        erasable: one.erasable,
        destination: one.name,
    };
    Ok(all.map(view).collect())
}

/// Everything that is known of one key's backups.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn key_backups(
    services: &Services,
    key: &KeyRef,
    principal: &Principal,
) -> Result<KeyBackups, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    let db = services.store.db();
    let (key, _) = named(db, key).await?;
    let bundles = bundles::of_key(db, key.id).await?;
    let drills = drills::of_key(db, key.id).await?;
    let mut backups = all(services, &bundles, &drills).await?;
    backups.retain(|view| view.key_id == key.id);
    Ok(KeyBackups {
        backups,
        bundles: bundles.into_iter().map(BundleView::from).collect(),
        drills: drills.into_iter().map(DrillView::from).collect(),
    })
}

/// The RECOVERY keys there are, the newest first.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn recovery_key_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<RecoveryKeyView>, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    let pins = services.backups.pins();
    let pins: Vec<_> = pins.iter().map(ToString::to_string).collect();
    let keys = recovery_keys::all(services.store.db()).await?.into_iter();
    let view = |key: StoredRecoveryKey| RecoveryKeyView {
        trusted_here: key.ended_at.is_none()
            && pins.contains(&key.fingerprint)
            && is_of(&key.public_key, &key.fingerprint),
        fingerprint: key.fingerprint,
        share_set: key.share_set,
        threshold: key.threshold,
        shares: key.shares,
        made_by: key.made_by,
        made_at: key.made_at,
    };
    Ok(keys.map(view).collect())
}

/// Each key at each destination, from lists that have the newest first.
async fn all(
    services: &Services,
    bundles: &[Backup],
    drills: &[Drill],
) -> Result<Vec<BackupView>, StoreError> {
    let db = services.store.db();
    let destinations = destinations::all(db).await?;
    let now = services.store.now().await?;
    let mut names = HashMap::new();
    let mut views = Vec::new();
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            names.insert(key.id, key.name(&keyring).to_string());
            if !is_backed_up(key.state) {
                continue;
            }
            for destination in &destinations {
                let destination = &destination.name;
                let bundle = bundles
                    .iter()
                    .find(|one| one.key == key.id && one.destination == *destination);
                let of_here = |one: &&Drill| one.key == key.id && one.destination == *destination;
                let last = drills.iter().find(of_here);
                let proved = drills
                    .iter()
                    .filter(of_here)
                    .find(|one| one.problem.is_none());
                views.push(BackupView {
                    key: key.name(&keyring),
                    key_id: key.id,
                    state: key.state,
                    destination: destination.clone(),
                    bundle: bundle.map(|one| one.name.clone()),
                    stored_at: bundle.map(|one| one.stored_at),
                    backup_key: bundle.map(|one| one.backup_key.to_string()),
                    recovery: bundle.and_then(|one| one.recovery.clone()),
                    proved_at: proved.map(|one| one.last_at),
                    is_fresh: proved.is_some_and(|one| is_fresh(one.last_at, now)),
                    tried_at: last.map(|one| one.last_at),
                    problem: last.and_then(|one| one.problem),
                    since: last.map(|one| one.began_at),
                    millis: last.map(|one| one.millis),
                    opened: last.map(|one| one.opened),
                });
            }
        }
    }
    for view in &mut views {
        let id = view.backup_key.as_deref().and_then(|id| id.parse().ok());
        let name = id.and_then(|id: KeyId| names.get(&id).cloned());
        view.backup_key = name.or(view.backup_key.take());
    }
    Ok(views)
}

impl From<Backup> for BundleView {
    fn from(row: Backup) -> Self {
        Self {
            destination: row.destination,
            bundle: row.name,
            stored_at: row.stored_at,
            confirmed_at: row.confirmed_at,
        }
    }
}

impl From<Drill> for DrillView {
    fn from(row: Drill) -> Self {
        Self {
            id: row.id,
            destination: row.destination,
            bundle: row.bundle,
            problem: row.problem,
            began_at: row.began_at,
            last_at: row.last_at,
            times: row.times,
        }
    }
}
