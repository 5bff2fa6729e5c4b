//! Asking for backups now: the verifier makes and proves them at every destination.

use rekey_domain::{KeyId, KeyRef, Principal};
use rekey_messages::Event;
use rekey_store::{audit, backups::bundles, inbox, keyrings, keys};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, OperationError, Services, access::audited::Audited, backups::due::is_backed_up,
    keys::named::named, rotations::rotate::PUBLISH,
};

/// Keys that are backed up next.
#[derive(Debug, Clone, Serialize)]
pub struct BackupsRequested {
    /// Their names.
    pub keys: Vec<String>,
}

/// Has a key, or every key, backed up and proved as soon as can be.
///
/// # Errors
/// [`OperationError::Refused`] for a key that is being destroyed, [`OperationError::Store`] for one that there is not.
pub async fn request_backups(
    services: &Services,
    key: Option<&KeyRef>,
    principal: &Principal,
) -> Result<BackupsRequested, OperationError> {
    let keys = take_backup_request(services, key, None, principal).await?;
    Ok(BackupsRequested { keys })
}

/// The same, of an event only the first time that it is `seen`. Gives the names of the keys.
pub(crate) async fn take_backup_request(
    services: &Services,
    key: Option<&KeyRef>,
    seen: Option<&Event>,
    principal: &Principal,
) -> Result<Vec<String>, OperationError> {
    let audited = Audited::begin(services, principal, Action::RequestBackup).await?;
    if let Some(event) = seen
        && !inbox::first_sight(&audited.unit, event, PUBLISH).await?
    {
        return Ok(Vec::new());
    }
    let wanted = match key {
        Some(key) => vec![one(services, key).await?],
        None => every(services).await?,
    };
    for (id, _) in &wanted {
        bundles::want(&audited.unit, *id).await?;
    }
    let names: Vec<_> = wanted.into_iter().map(|(_, name)| name).collect();
    let subject = match (key, &names[..]) {
        (Some(_), [one]) => one.clone(),
        _ => "every key".to_owned(),
    };
    let details = json!({ "keys": names.len() });
    audited
        .commit(audit::Action::BackupsRequested, &subject, details)
        .await?;
    Ok(names)
}

async fn one(services: &Services, key: &KeyRef) -> Result<(KeyId, String), OperationError> {
    let (key, keyring) = named(services.store.db(), key).await?;
    let (name, state) = (key.name(&keyring), key.state);
    if !is_backed_up(state) {
        let why = format!("key {name} is {state}: it is to go, so it gets no new backup");
        return Err(OperationError::Refused(why));
    }
    Ok((key.id, name.to_string()))
}

async fn every(services: &Services) -> Result<Vec<(KeyId, String)>, OperationError> {
    let db = services.store.db();
    let mut all = Vec::new();
    for keyring in keyrings::all(db).await? {
        let keys = keys::of_keyring(db, keyring.id).await?.into_iter();
        let kept = keys.filter(|key| is_backed_up(key.state));
        all.extend(kept.map(|key| (key.id, key.name(&keyring).to_string())));
    }
    Ok(all)
}
