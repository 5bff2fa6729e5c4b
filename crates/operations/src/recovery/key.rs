//! `restore KEY`: a key that the store has lost, or whose material does not open any more, comes back from its bundle.

use rekey_domain::{KeyId, KeyRef, KeyState, Principal};
use rekey_envelope::CheckValue;
use rekey_store::{
    audit, keyrings,
    keys::{self, StoredKey},
};
use serde_json::json;

use super::{
    finding::{Found, FoundKey, because, find, refused},
    opening::Opener,
    rebuilding::wrap,
    whole::RestoredKey,
};
use crate::{
    Action, Desired, OperationError, Services,
    access::audited::Audited,
    authorise,
    backups::sealing::{Trouble, unwrap},
    configuration::init::new_primaries,
};

/// What became of a key that was to come back.
#[derive(Debug, Clone)]
pub enum KeyCameBack {
    /// It is there, and opens: nothing is to be done.
    IsThere,
    /// It is back, or would be.
    Back(RestoredKey),
}

/// Brings a key back. `kept` reaches the destinations to look at. It never encrypts again: a keyring whose primary key it
/// was gets a new one. With `plan` nothing is done.
///
/// # Errors
/// [`OperationError::Refused`] where no bundle of it opens, or the store has another key under its id or version.
pub async fn restore_key(
    (services, kept): (&Services, &Services),
    desired: &Desired,
    key: &KeyRef,
    plan: bool,
    principal: &Principal,
) -> Result<KeyCameBack, OperationError> {
    authorise(principal, Action::Restore)?;
    let deployment = keyrings::deployment(services.store.db()).await?;
    let there = there(services, key).await?;
    if let Some(there) = &there
        && opens(services, deployment, there).await?
    {
        return Ok(KeyCameBack::IsThere);
    }
    let found = find(kept, Some(deployment), &Opener::MasterKey).await?;
    let id = there
        .as_ref()
        .map_or_else(|| named(&found, key), |there| Ok(there.id))?;
    let bundle = found.keys.get(&id).ok_or_else(|| nothing(&found, key))?;
    let told = told(&found, bundle, there.as_ref());
    if plan {
        return Ok(KeyCameBack::Back(told));
    }
    put(services, &found, bundle, there, principal).await?;
    new_primaries(services, desired, principal).await?;
    Ok(KeyCameBack::Back(told))
}

async fn there(services: &Services, key: &KeyRef) -> Result<Option<StoredKey>, OperationError> {
    let db = services.store.db();
    let id = match crate::keys::named::named(db, key).await {
        Ok((key, _)) => key.id,
        Err(rekey_store::StoreError::Unknown { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(keys::find_stored(db, id).await?)
}

async fn opens(
    services: &Services,
    deployment: uuid::Uuid,
    key: &StoredKey,
) -> Result<bool, OperationError> {
    if key.state == KeyState::Destroyed {
        return Err(refused(format!(
            "key {} was destroyed on purpose, and does not come back",
            key.id
        )));
    }
    let keyring = keyrings::by_id(services.store.db(), key.keyring_id).await?;
    match unwrap(services, deployment, keyring, key.clone()).await {
        Ok(_) => Ok(true),
        Err(Trouble::Problem(problem)) if problem.is_a_verdict() => Ok(false),
        Err(trouble) => Err(trouble.into_error()),
    }
}

/// The key that is meant, among those that came out of bundles.
fn named(found: &Found, key: &KeyRef) -> Result<KeyId, OperationError> {
    let id = match key {
        KeyRef::Id(id) => Some(*id),
        KeyRef::Name(name) => found.keys.values().map(|one| &one.key).find_map(|one| {
            let is_it =
                one.details.keyring_name == name.keyring && one.details.version == name.version;
            is_it.then_some(one.key_id)
        }),
    };
    id.ok_or_else(|| nothing(found, key))
}

fn nothing(found: &Found, key: &KeyRef) -> OperationError {
    let why = because(&found.notes);
    refused(format!(
        "no bundle of key {key} opens at a destination that this process reaches{why}"
    ))
}

fn told(found: &Found, bundle: &FoundKey, there: Option<&StoredKey>) -> RestoredKey {
    let id = bundle.key.key_id;
    RestoredKey {
        key: found.name(id),
        key_id: id,
        state: there.map_or_else(|| found.state(id), |there| after(there.state)),
        destination: bundle.destination.clone(),
        bundle: bundle.bundle.clone(),
    }
}

/// A key that came back never encrypts.
fn after(state: KeyState) -> KeyState {
    match state {
        KeyState::Active | KeyState::Pending => KeyState::Inactive,
        other => other,
    }
}

async fn put(
    services: &Services,
    found: &Found,
    bundle: &FoundKey,
    there: Option<StoredKey>,
    principal: &Principal,
) -> Result<(), OperationError> {
    let id = bundle.key.key_id;
    let restored = wrap(services, found, bundle).await?;
    let audited = Audited::begin(services, principal, Action::Restore).await?;
    let state = match there {
        None => {
            let state = restored.state;
            keys::insert_restored(&audited.unit, restored).await?;
            state
        }
        Some(there) => {
            let same = CheckValue::try_from(there.check_value.as_slice())
                .is_ok_and(|value| value.matches(&bundle.key.material));
            let wrapped = restored.wrapped.filter(|_| same);
            let wrapped = wrapped.ok_or_else(|| {
                refused(format!(
                    "the store has another key under the id {id} than the bundle {}",
                    bundle.bundle
                ))
            })?;
            keys::put_back(&audited.unit, &there, wrapped).await?;
            let state = after(there.state);
            if state != there.state {
                keys::take_state(&audited.unit, &there, state, None).await?;
            }
            state
        }
    };
    let name = found.name(id);
    let details = json!({ "key_id": id, "destination": bundle.destination, "bundle": bundle.bundle, "state": state });
    audited
        .commit(audit::Action::KeyRestored, &name, details)
        .await
}
