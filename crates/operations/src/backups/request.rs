//! Asking for backups now: the verifier makes and proves them at every destination.

use rekey_domain::{KeyRef, Principal};
use rekey_store::{audit, backups::bundles, keyrings, keys};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, OperationError, Services, access::audited::Audited, backups::work::is_backed_up,
    keys::named::named,
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
    let audited = Audited::begin(services, principal, Action::RequestBackup).await?;
    let db = services.store.db();
    let mut wanted = Vec::new();
    match key {
        Some(name) => {
            let (key, keyring) = named(db, name).await?;
            if !is_backed_up(key.state) {
                let (name, state) = (key.name(&keyring), key.state);
                let why = format!("key {name} is {state}: it is to go, so it gets no new backup");
                return Err(OperationError::Refused(why));
            }
            wanted.push((key.id, key.name(&keyring).to_string()));
        }
        None => {
            for keyring in keyrings::all(db).await? {
                let keys = keys::of_keyring(db, keyring.id).await?.into_iter();
                let kept = keys.filter(|key| is_backed_up(key.state));
                wanted.extend(kept.map(|key| (key.id, key.name(&keyring).to_string())));
            }
        }
    }
    let names: Vec<_> = wanted.iter().map(|(_, name)| name.clone()).collect();
    for (key, _) in &wanted {
        bundles::want(&audited.unit, *key).await?;
    }
    let subject = match (key, &names[..]) {
        (Some(_), [one]) => one.clone(),
        _ => "every key".to_owned(),
    };
    let details = json!({ "keys": names.len() });
    audited
        .commit(audit::Action::BackupsRequested, &subject, details)
        .await?;
    Ok(BackupsRequested { keys: names })
}
