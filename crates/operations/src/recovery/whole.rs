//! `restore --all`: a deployment whose store is lost, and perhaps its KMS too, is made again from what destinations keep.

use std::collections::HashSet;

use rekey_backups::{RecoveryKey, Share, combine};
use rekey_domain::{DestinationName, KeyId, KeyState, Principal};
use rekey_runtime::crash;
use rekey_store::{
    Unit,
    audit::{self, AuditPen, Record},
    keyrings,
    keys::{self, suspension},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    finding::{Found, FoundCheckpoint, because, find, refused},
    opening::Opener,
    rebuilding::{fill, without_keyring, wrapped},
};
use crate::{
    Action, Desired, OperationError, Services, authorise, configuration::init::new_primaries,
};

/// Why nothing is encrypted while a store is filled.
pub(crate) const UNDER_WAY: &str =
    "a restore is under way; said again, rekey restore --all goes on with it";

/// What was brought back, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredStore {
    /// The deployment.
    pub deployment: Uuid,
    /// Its keys.
    pub keys: Vec<RestoredKey>,
    /// Its protected columns.
    pub columns: usize,
    /// The newest checkpoint; none: no state of a key is known.
    pub checkpoint: Option<CheckpointAge>,
    /// What is wrong with what stands at destinations.
    pub notes: Vec<String>,
}

/// A key that was brought back.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredKey {
    /// The key, as people call it.
    pub key: String,
    /// Its id.
    pub key_id: KeyId,
    /// Its state from now on.
    pub state: KeyState,
    /// Where its bundle was.
    pub destination: DestinationName,
    /// Its bundle.
    pub bundle: String,
}

/// A checkpoint, and how old it is.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointAge {
    /// Its number.
    pub counter: u64,
    /// When it was made.
    pub written_at: chrono::DateTime<chrono::Utc>,
    /// The entry of the record at which it was made.
    pub entry: u64,
    /// The SIGNING key that signed it.
    pub signed_by: KeyId,
    /// Where it stands.
    pub destination: DestinationName,
}

impl CheckpointAge {
    pub(crate) fn of(found: &FoundCheckpoint) -> Self {
        let checkpoint = found.checkpoint();
        Self {
            counter: checkpoint.counter,
            written_at: checkpoint.written_at,
            entry: checkpoint.audit.sequence,
            signed_by: found.signed.signed_by(),
            destination: found.destination.clone(),
        }
    }
}

/// How a store is brought back.
#[derive(Default)]
pub struct HowToRestore {
    /// Which deployment, where destinations keep several.
    pub deployment: Option<Uuid>,
    /// Shares of the RECOVERY key, where the KMS is lost.
    pub shares: Vec<Share>,
    /// Whether to go on where no checkpoint tells the states of keys.
    pub without_checkpoint: bool,
    /// Whether to go on where keys that a checkpoint knows do not come back.
    pub incomplete: bool,
}

/// What [`restore_store`] would bring back.
///
/// # Errors
/// As [`restore_store`].
pub async fn plan_restore(
    services: &Services,
    how: &HowToRestore,
    principal: &Principal,
) -> Result<RestoredStore, OperationError> {
    authorise(principal, Action::Restore)?;
    let (found, _) = look(services, how).await?;
    Ok(told(&found))
}

/// Makes a deployment again in an empty store: no key of before encrypts, and every keyring gets a new primary key. Killed
/// half-way it is said again and goes on.
///
/// # Errors
/// [`OperationError::Refused`] where the store is another deployment's, or what was found does not make one whole;
/// nothing was changed then.
pub async fn restore_store(
    services: &Services,
    desired: &Desired,
    how: &HowToRestore,
    principal: &Principal,
) -> Result<RestoredStore, OperationError> {
    authorise(principal, Action::Restore)?;
    let (found, is_filled) = look(services, how).await?;
    if !is_filled {
        let keys = wrapped(services, &found).await?;
        let unit = services.store.begin().await?;
        fill(&unit, &found.contents, keys, desired).await?;
        // Until all of it is done nothing is encrypted, and who says it again goes on.
        suspension::suspend(&unit, UNDER_WAY).await?;
        unit.commit().await?;
        crash::point("restore.filled");
    }
    new_primaries(services, desired, principal).await?;
    crash::point("restore.primaries");
    let told = standing(services, told(&found)).await?;
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    suspension::resume(&unit).await?;
    record(&unit, &pen, &found, &told, how).await?;
    unit.commit().await?;
    Ok(told)
}

/// What is found, and whether an earlier attempt has filled the store with it.
async fn look(services: &Services, how: &HowToRestore) -> Result<(Found, bool), OperationError> {
    let key = match how.shares.is_empty() {
        true => None,
        false => Some(combined(&how.shares)?),
    };
    let opener = key.as_ref().map_or(Opener::MasterKey, Opener::Shares);
    let found = find(services, how.deployment, &opener).await?;
    let lost = without_keyring(&found);
    if !lost.is_empty() {
        return Err(refused(format!(
            "the deployment's bundle does not know the keyring of {}: a newer bundle of the deployment is missing",
            lost.join(", ")
        )));
    }
    if found.checkpoint.is_none() && !how.without_checkpoint {
        return Err(refused(format!(
            "no checkpoint of this deployment was found that is to be believed, so nobody knows which keys were reported or destroyed; with --without-checkpoint they all come back as INACTIVE{}",
            because(&found.notes)
        )));
    }
    if !how.incomplete {
        found.refuse_incomplete(&HashSet::new())?;
    }
    let is_filled = is_filled(services, &found).await?;
    Ok((found, is_filled))
}

fn combined(shares: &[Share]) -> Result<RecoveryKey, OperationError> {
    let first = shares.first().expect("there are some");
    let key = combine(shares, first.fingerprint());
    key.map_err(|error| refused(error.to_string()))
}

/// Whether the store has this deployment, which an attempt that was cut short has put there.
async fn is_filled(services: &Services, found: &Found) -> Result<bool, OperationError> {
    let db = services.store.db();
    let Some(there) = keyrings::find_deployment(db).await? else {
        return Ok(false);
    };
    if there != found.deployment {
        return Err(refused(format!(
            "the store is that of deployment {there}, and the bundles are of {}: restore into a store that is empty, another database or of SQLite another state directory",
            found.deployment
        )));
    }
    match suspension::suspension(db).await? {
        Some(suspended) if suspended.because == UNDER_WAY => Ok(true),
        _ => Err(refused(format!(
            "the store is that of deployment {there} already: nothing is to be restored into it; a key of it that is lost comes back by rekey restore KEY"
        ))),
    }
}

/// What an earlier attempt made already did not come back.
async fn standing(
    services: &Services,
    told: RestoredStore,
) -> Result<RestoredStore, OperationError> {
    let mut keys = Vec::new();
    for key in told.keys {
        let stored = keys::find(services.store.db(), key.key_id).await?;
        let is_new = |one: &keys::Key| matches!(one.state, KeyState::Active | KeyState::Pending);
        if !stored.as_ref().is_some_and(is_new) {
            keys.push(key);
        }
    }
    Ok(RestoredStore { keys, ..told })
}

async fn record(
    unit: &Unit,
    pen: &AuditPen,
    found: &Found,
    told: &RestoredStore,
    how: &HowToRestore,
) -> Result<(), OperationError> {
    let subject = found.checkpoint.as_ref().map(FoundCheckpoint::subject);
    let keys: Vec<_> = told.keys.iter().map(|key| &key.key).collect();
    let record = Record {
        action: audit::Action::StoreRestored,
        subject: subject.as_deref().unwrap_or("nothing"),
        outcome: "done",
        details: json!({ "keys": keys, "with_shares": !how.shares.is_empty() }),
    };
    Ok(pen.append(unit, record).await?)
}

fn told(found: &Found) -> RestoredStore {
    let mut keys: Vec<_> = found
        .keys
        .values()
        .map(|one| RestoredKey {
            key: format!(
                "{}/{}",
                one.key.details.keyring_name, one.key.details.version
            ),
            key_id: one.key.key_id,
            state: found.state(one.key.key_id),
            destination: one.destination.clone(),
            bundle: one.bundle.clone(),
        })
        .collect();
    keys.sort_by(|one, other| one.key.cmp(&other.key));
    RestoredStore {
        deployment: found.deployment,
        keys,
        columns: found.contents.columns.len(),
        checkpoint: found.checkpoint.as_ref().map(CheckpointAge::of),
        notes: found.notes.clone(),
    }
}
