//! An empty store becomes the store of a deployment again, in one unit: keyrings, keys, sources and columns.

use rekey_domain::{Algorithm, KeyState, OnUpdate, Triggers};
use rekey_envelope::{CheckValue, SigningKey, decode_base64};
use rekey_kms::EncryptionContext;
use rekey_store::{
    Unit,
    backups::recovery_keys::{self, NewRecoveryKey},
    columns::{self, NewColumn},
    keyrings::{self, Keyring},
    keys::{self, Restored},
};
use uuid::Uuid;

use super::finding::{Found, FoundKey};
use crate::{
    Desired, OperationError, STORE_SOURCE, Services, backups::deployment::contents::Contents,
    configuration::apply::backed_up,
};

/// The keys as they are to stand in the store, wrapped by the master key of today.
pub(crate) async fn wrapped(
    services: &Services,
    found: &Found,
) -> Result<Vec<Restored>, OperationError> {
    let mut all = Vec::new();
    for key in found.keys.values() {
        all.push(wrap(services, found, key).await?);
    }
    // As they were made: a version after the one before it.
    all.sort_by_key(|key| (key.keyring, key.version));
    Ok(all)
}

/// A key that was brought back, and what is known of it.
pub(crate) async fn wrap(
    services: &Services,
    found: &Found,
    FoundKey { key, .. }: &FoundKey,
) -> Result<Restored, OperationError> {
    let details = &key.details;
    let record = found.record(key.key_id);
    let state = found.state(key.key_id);
    let wrapped = match state {
        KeyState::Destroyed => None,
        _ => {
            let context = EncryptionContext {
                deployment: found.deployment,
                keyring: details.keyring,
                key_id: key.key_id,
                purpose: details.purpose,
            };
            let wrapped = services.kms.wrap(&key.material, &context).await?;
            Some((wrapped.wrapped.into(), wrapped.master_key))
        }
    };
    Ok(Restored {
        id: key.key_id,
        keyring: details.keyring,
        version: details.version,
        state,
        algorithm: details.algorithm,
        wrapped,
        check_value: CheckValue::of(&key.material).as_bytes().to_vec(),
        public_key: match details.algorithm {
            Algorithm::Ed25519 => {
                let pair = SigningKey::new(&key.material)?;
                Some(pair.public_key().as_bytes().to_vec())
            }
            _ => None,
        },
        created_at: details.created_at,
        // Under what was a standby values may stand of the time that no bundle and no checkpoint tells of.
        activated_at: record
            .and_then(|record| record.first_primary_at)
            .or(details.activated_at)
            .or(Some(details.created_at)),
        reported_at: record.and_then(|record| record.reported_at),
    })
}

/// Fills the store. Nothing of it stands unless all of it does.
pub(crate) async fn fill(
    unit: &Unit,
    contents: &Contents,
    keys: Vec<Restored>,
    desired: &Desired,
) -> Result<(), OperationError> {
    keyrings::restore_deployment(unit, contents.deployment).await?;
    restore_keyrings(unit, contents).await?;
    let has_keyring = |key: &Restored| contents.keyrings.iter().any(|one| one.id == key.keyring);
    for key in keys.into_iter().filter(has_keyring) {
        keys::insert_restored(unit, key).await?;
    }
    backed_up::declare(unit, desired).await?;
    recovery_keys(unit, contents).await?;
    columns(unit, contents, desired).await
}

/// The public halves of RECOVERY keys, so that bundles go on being sealed to the one that a process is told of.
async fn recovery_keys(unit: &Unit, contents: &Contents) -> Result<(), OperationError> {
    for key in &contents.public_recovery_keys {
        let new = NewRecoveryKey {
            fingerprint: key.fingerprint.clone(),
            public_key: decode_base64(&key.public_key).unwrap_or_default(),
            share_set: key.share_set,
            threshold: key.threshold,
            shares: key.shares,
            made_by: &key.made_by,
        };
        recovery_keys::add(unit, new).await?;
    }
    Ok(())
}

/// Keyrings that the store does not have.
pub(crate) async fn restore_keyrings(
    unit: &Unit,
    contents: &Contents,
) -> Result<(), OperationError> {
    let there = keyrings::all(unit.db()).await?;
    let mut lost = contents.keyrings.clone();
    lost.retain(|keyring| !there.iter().any(|one| one.id == keyring.id));
    for keyring in &lost {
        keyrings::restore(unit, &as_keyring(keyring)).await?;
    }
    Ok(())
}

/// Sources, their tables and protected columns; what the store has already is as the newest knows it.
pub(crate) async fn columns(
    unit: &Unit,
    contents: &Contents,
    desired: &Desired,
) -> Result<(), OperationError> {
    for source in &contents.sources {
        // The store itself is a source, and may be somewhere else now.
        let ours = desired
            .sources
            .iter()
            .find(|one| one.name == STORE_SOURCE && one.name == source.name);
        let url = ours.map_or_else(|| source.url.clone(), |ours| ours.url.without_login());
        let (made, _) = columns::ensure_source(unit, &source.name, &url).await?;
        if ours.is_none() {
            columns::note_database(unit, &made, source.database_id.as_deref()).await?;
        }
        columns::set_limits(unit, &made, &source.limits).await?;
        let tables = contents.tables.iter();
        for table in tables.filter(|table| table.source == source.id) {
            let said = OnUpdate {
                // Whether triggers may fire, and whose code is trusted with that, rekey.toml says again.
                triggers: Some(table.triggers).filter(|said| *said == Triggers::Suppress),
                publications_accepted: table.publications_accepted.unwrap_or(true),
            };
            let (name, relation) = (&table.name, &table.relation);
            let (stored, _) = columns::ensure_table(unit, made.id, name, relation, said).await?;
            let of_table = contents.columns.iter();
            for column in of_table.filter(|column| column.table == table.id) {
                let new = NewColumn {
                    name: column.name.clone(),
                    column_id: column.column_id.clone(),
                    is_id_said: true,
                    keyring: column.keyring,
                    bind: column.bind.clone(),
                    bind_columns: column.bind_columns.clone(),
                    bind_types: column.bind_types.clone().unwrap_or_default(),
                    encoding: column.encoding,
                    identity: column.identity.clone().filter(|_| ours.is_none()),
                };
                columns::protect(unit, stored.id, new).await?;
            }
        }
    }
    Ok(())
}

fn as_keyring(keyring: &crate::backups::deployment::contents::Keyring) -> Keyring {
    Keyring {
        id: keyring.id,
        name: keyring.name.clone(),
        purpose: keyring.purpose,
        algorithm: keyring.algorithm,
        policy: keyring.policy.clone(),
        primary_key_id: None,
        created_at: keyring.created_at,
    }
}

/// Keys whose keyring the deployment's bundle does not know.
pub(crate) fn without_keyring(found: &Found) -> Vec<String> {
    let known: Vec<Uuid> = found.contents.keyrings.iter().map(|one| one.id).collect();
    let all = found.keys.values().map(|found| &found.key);
    let lost = all.filter(|key| !known.contains(&key.details.keyring));
    lost.map(|key| format!("{}/{}", key.details.keyring_name, key.details.version))
        .collect()
}
