//! Standbys: keys that are made ahead. One of a master key that was reported is never used.

use rekey_domain::KeyState;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait};
use uuid::Uuid;

use super::{Key, NewKey, StoredKey, keyrings, of_keyring, reported_masters};
use crate::{
    StoreError, Unit,
    database::stored::{Id, Text},
    keys::entities::key,
};

/// The keyring's standby key: the lowest pending version that is not under a master key that was reported.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn standby(db: &impl ConnectionTrait, keyring: Uuid) -> Result<Option<Key>, StoreError> {
    let keys = of_keyring(db, keyring).await?.into_iter();
    for key in keys.filter(|key| key.state == KeyState::Pending) {
        if !reported_masters::is_under_one(db, key.master_key.as_deref()).await? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Stores a key as its keyring's standby.
///
/// # Errors
/// [`StoreError::Stale`] when the id is taken, when the keyring's algorithm changed since the key was made, or when its
/// master key was reported meanwhile: another key is to be made.
pub async fn insert_standby(unit: &Unit, keyring: Uuid, new: NewKey) -> Result<Key, StoreError> {
    let locked = keyrings::lock(unit, keyring).await?;
    if locked.algorithm != new.algorithm {
        let what = format!("the algorithm of keyring {}", locked.name);
        return Err(StoreError::Stale { what });
    }
    let made_under = &new.master_key;
    if reported_masters::is_under_one(unit.db(), Some(made_under)).await? {
        let what = format!("what is known of master key {made_under}");
        return Err(StoreError::Stale { what });
    }
    let last = of_keyring(unit.db(), keyring)
        .await?
        .last()
        .map_or(0, |key| key.version);
    let version = i32::try_from(last + 1).expect("a keyring has fewer than 2^31 keys");
    let row = key::ActiveModel {
        key_id: Set(Id(new.id)),
        keyring_id: Set(keyring),
        version: Set(version),
        state: Set(Text(KeyState::Pending)),
        algorithm: Set(Text(new.algorithm)),
        wrapped: Set(Some(new.wrapped)),
        check_value: Set(new.check_value),
        used: Set(0),
        used_by_applications: Set(0),
        created_at: Set(unit.now()),
        activated_at: Set(None),
        deactivated_at: Set(None),
        expires_at: Set(None),
        master_key: Set(Some(new.master_key)),
        public_key: Set(new.public_key),
        longest_lease: Set(None),
        leases_end_at: Set(None),
        reported_at: Set(None),
        compromised_since: Set(None),
        emptied_at: Set(None),
        closed_at: Set(None),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("key {}", new.id));
    let row = row.insert(unit.db()).await.map_err(taken)?;
    Ok(StoredKey::from(row).key)
}
