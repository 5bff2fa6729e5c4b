//! The states of all keys, as a checkpoint names them: what nobody may forget of them.

use rekey_backups::{BundleName, KeyRecord, StatesDocument};
use rekey_domain::{DestinationName, KeyId};
use rekey_store::{
    StoreError,
    backups::{
        bundles::{self, Backup},
        deployments,
    },
    keyrings, keys,
};

use super::due::newest;
use crate::Services;

/// A states document, to be stored.
pub(crate) struct States {
    pub(crate) name: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) bytes: Vec<u8>,
}

/// As the store has them now, with the bundles of one destination.
pub(crate) async fn states(
    services: &Services,
    destination: &DestinationName,
) -> Result<States, StoreError> {
    let db = services.store.db();
    let deployment = keyrings::deployment(db).await?;
    let bundles = newest(bundles::all(db).await?, |one: &Backup| {
        (one.key, one.destination.clone())
    });
    let mut records = Vec::new();
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            let bundle = bundles.get(&(key.id, destination.clone()));
            // A row that somebody altered names no bundle of this key.
            let bundle = bundle.filter(|one| is_of(&one.name, key.id));
            records.push(KeyRecord {
                key_id: key.id,
                keyring: keyring.id,
                state: key.state,
                first_primary_at: key.activated_at,
                reported_at: key.reported_at,
                bundle: bundle.map(|one| one.name.clone()),
            });
        }
    }
    let prefix = format!("deployments/{deployment}/");
    let deployments = deployments::all(db).await?.into_iter();
    let mut here = deployments.filter(|one| one.destination == *destination);
    let document = StatesDocument {
        deployment,
        deployment_bundle: here
            .next()
            .and_then(|one| one.stored)
            .map(|one| one.name)
            .filter(|name| name.starts_with(&prefix)),
        keys: records,
    };
    let bytes = document.to_bytes();
    Ok(States {
        name: StatesDocument::name_of(deployment, &bytes),
        sha256: StatesDocument::sha256_of(&bytes),
        bytes,
    })
}

fn is_of(name: &str, key: KeyId) -> bool {
    name.parse::<BundleName>()
        .is_ok_and(|name| name.key_id() == key)
}
