//! `restore --reconcile`: a store that was rolled back is told what it forgot, by the newest checkpoint and the bundles.

use std::collections::HashSet;

use rekey_backups::KeyRecord;
use rekey_domain::{KeyId, KeyRef, KeyState, Principal};
use rekey_runtime::crash;
use rekey_store::{
    Unit,
    audit::{self, Record},
    incidents, keyrings,
    keys::{
        self, Key, Restored,
        suspension::{self, Suspension},
    },
};
use serde::Serialize;
use serde_json::json;

use super::{
    finding::{Found, because, find, refused},
    opening::Opener,
    rebuilding::{columns, restore_keyrings, wrap},
    whole::CheckpointAge,
};
use crate::{
    Action, Desired, OperationError, Report, Services, authorise,
    configuration::init::new_primaries, report_compromise,
};

/// What a reconciliation does, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Reconciled {
    /// Why the deployment was suspended.
    pub because: String,
    /// The newest checkpoint, by which it is reconciled.
    pub checkpoint: CheckpointAge,
    /// What is done, key by key.
    pub changes: Vec<KeyChange>,
    /// What is wrong with what stands at destinations.
    pub notes: Vec<String>,
}

/// What becomes of a key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyChange {
    /// The key, as people call it.
    pub key: String,
    /// Its id.
    pub key_id: KeyId,
    /// Its state in the store; none: the store does not know it.
    pub was: Option<KeyState>,
    /// Its state from now on.
    pub becomes: KeyState,
}

/// What [`reconcile_store`] would do.
///
/// # Errors
/// As [`reconcile_store`].
pub async fn plan_reconcile(
    services: &Services,
    incomplete: bool,
    principal: &Principal,
) -> Result<Reconciled, OperationError> {
    authorise(principal, Action::Restore)?;
    let (found, suspended) = look(services).await?;
    let steps = steps(services, &found, &suspended, incomplete).await?;
    Ok(told(&found, suspended.because, &steps))
}

/// Brings the store up to the newest checkpoint: keys that it does not know come back, states that it forgot are set, and
/// every keyring gets a new primary key, as how often the others were used is not known. Then encryption goes on. Killed
/// half-way it is said again.
///
/// # Errors
/// [`OperationError::Refused`] where the deployment is not suspended, or nothing is found that knows more; nothing was
/// changed then.
pub async fn reconcile_store(
    services: &Services,
    desired: &Desired,
    incomplete: bool,
    principal: &Principal,
) -> Result<Reconciled, OperationError> {
    authorise(principal, Action::Restore)?;
    let (found, suspended) = look(services).await?;
    let all = steps(services, &found, &suspended, incomplete).await?;
    let told = told(&found, suspended.because, &all);
    let mut restored = Vec::new();
    for step in &all {
        if let Step::Restore(key) = step {
            restored.push(wrap(services, &found, &found.keys[key]).await?);
        }
    }
    let unit = services.store.begin().await?;
    restore_keyrings(&unit, &found.contents).await?;
    apply(&unit, &all, restored).await?;
    columns(&unit, &found.contents, desired).await?;
    unit.commit().await?;
    crash::point("reconcile.restored");
    new_primaries(services, desired, principal).await?;
    crash::point("reconcile.primaries");
    // Before encryption goes on: what was cut short here is said again.
    report_again(services, principal).await?;
    finish(services, &found, &told, principal).await?;
    Ok(told)
}

async fn look(services: &Services) -> Result<(Found, Suspension), OperationError> {
    let db = services.store.db();
    let suspended = suspension::suspension(db).await?;
    let suspended = suspended.ok_or_else(|| {
        refused("the deployment is not suspended: no verifier has found a checkpoint that knows more than the store, so nothing is to be reconciled".to_owned())
    })?;
    let deployment = keyrings::deployment(db).await?;
    let found = find(services, Some(deployment), &Opener::MasterKey).await?;
    if found.checkpoint.is_none() {
        return Err(refused(format!(
            "no checkpoint of this deployment was found at a destination that this process reaches{}",
            because(&found.notes)
        )));
    }
    Ok((found, suspended))
}

/// What is to be done with a key.
enum Step {
    /// The store does not know it.
    Restore(KeyId),
    /// The store has it as something else, and it never encrypts again.
    Take(Box<Key>, KeyState, Option<chrono::DateTime<chrono::Utc>>),
}

async fn steps(
    services: &Services,
    found: &Found,
    suspended: &Suspension,
    incomplete: bool,
) -> Result<Vec<Step>, OperationError> {
    let db = services.store.db();
    let checkpoint = found.checkpoint.as_ref();
    let records = checkpoint.map_or(&[][..], |one| &one.states.keys);
    let (mut steps, mut known) = (Vec::new(), HashSet::new());
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            known.insert(key.id);
            // What was made since is used as this store says, and of an earlier attempt.
            if key.created_at > suspended.at {
                continue;
            }
            let record = records.iter().find(|record| record.key_id == key.id);
            if let Some(state) = becomes(&key, record) {
                let reported_at = record.and_then(|record| record.reported_at);
                steps.push(Step::Take(Box::new(key), state, reported_at));
            }
        }
    }
    if !incomplete {
        found.refuse_incomplete(&known)?;
    }
    let lost = found.keys.keys().filter(|id| !known.contains(id));
    steps.extend(lost.map(|id| Step::Restore(*id)));
    Ok(steps)
}

/// What a key of the store becomes; none: it stays as it is. What encrypts or was to encrypt next does so no more: how
/// often it was used, and whether it was primary, nobody knows.
fn becomes(key: &Key, record: Option<&KeyRecord>) -> Option<KeyState> {
    use KeyState::{Active, Compromised, Destroyed, Destroying, Inactive, Pending};
    let said = record.map(|record| record.state);
    let state = match (key.state, said) {
        (Destroyed, _) | (_, Some(Destroyed)) => Destroyed,
        (_, Some(gone @ (Destroying | Compromised))) => gone,
        (Active | Pending, _) => Inactive,
        (stays, _) => stays,
    };
    (state != key.state).then_some(state)
}

async fn apply(unit: &Unit, steps: &[Step], restored: Vec<Restored>) -> Result<(), OperationError> {
    for step in steps {
        if let Step::Take(key, state, reported_at) = step {
            keys::take_state(unit, key, *state, *reported_at).await?;
        }
    }
    let mut in_order = restored;
    in_order.sort_by_key(|key| (key.keyring, key.version));
    for key in in_order {
        let version = free_version(unit, &key).await?;
        keys::insert_restored(unit, Restored { version, ..key }).await?;
    }
    Ok(())
}

/// Its own, unless a key that was made since the store went back has it: then the next. A version is a name.
async fn free_version(unit: &Unit, key: &Restored) -> Result<u32, OperationError> {
    let there = keys::of_keyring(unit.db(), key.keyring).await?;
    let is_taken = there.iter().any(|one| one.version == key.version);
    let last = there.last().map_or(0, |one| one.version);
    Ok(match is_taken {
        true => last + 1,
        false => key.version,
    })
}

/// The record says what was lost, and encryption goes on.
async fn finish(
    services: &Services,
    found: &Found,
    told: &Reconciled,
    principal: &Principal,
) -> Result<(), OperationError> {
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    suspension::resume(&unit).await?;
    let subject = found
        .checkpoint
        .as_ref()
        .map(super::finding::FoundCheckpoint::subject);
    let keys: Vec<_> = told.changes.iter().map(|change| &change.key).collect();
    let record = Record {
        action: audit::Action::StoreRolledBack,
        subject: subject.as_deref().unwrap_or("nothing"),
        outcome: "done",
        details: json!({ "because": told.because, "keys": keys }),
    };
    pen.append(&unit, record).await?;
    Ok(unit.commit().await?)
}

/// What stands under keys that had been reported is moved again: the rotations that did so, and their incidents, may be
/// among what was lost.
async fn report_again(services: &Services, principal: &Principal) -> Result<(), OperationError> {
    let db = services.store.db();
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            let is_known = incidents::latest_of_key(db, key.id).await?.is_some();
            if key.state != KeyState::Compromised || is_known {
                continue;
            }
            let report = Report {
                key: KeyRef::Id(key.id),
                reason: "a checkpoint says that it was reported before the store was rolled back"
                    .to_owned(),
                since: None,
            };
            report_compromise(services, &report, principal).await?;
        }
    }
    Ok(())
}

fn told(found: &Found, why: String, steps: &[Step]) -> Reconciled {
    let name = |id: KeyId| found.name(id);
    let change = |step: &Step| match step {
        Step::Restore(id) => KeyChange {
            key: name(*id),
            key_id: *id,
            was: None,
            becomes: found.state(*id),
        },
        Step::Take(key, state, _) => KeyChange {
            key: name(key.id),
            key_id: key.id,
            was: Some(key.state),
            becomes: *state,
        },
    };
    let checkpoint = found.checkpoint.as_ref();
    Reconciled {
        because: why,
        checkpoint: CheckpointAge::of(checkpoint.expect("looked for before")),
        changes: steps.iter().map(change).collect(),
        notes: found.notes.clone(),
    }
}
