//! Keys that were brought back from their bundles. None of them ever encrypts.

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, HARD_LIMIT, KeyId, KeyState};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter,
};
use uuid::Uuid;

use super::{Key, StoredKey, keyrings, longest_lease, of_keyring, one_changed};
use crate::{
    StoreError, Unit,
    database::stored::{Id, Text},
    keys::entities::{key, keyring},
};

/// A key that came out of a bundle, and what a checkpoint says of it.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Its id.
    pub id: KeyId,
    /// Its keyring.
    pub keyring: Uuid,
    /// Its version there.
    pub version: u32,
    /// What it may do from now on: never ACTIVE, nor PENDING.
    pub state: KeyState,
    /// How it encrypts.
    pub algorithm: Algorithm,
    /// Wrapped by the master key of today, and that; none: it was destroyed.
    pub wrapped: Option<(Vec<u8>, String)>,
    /// Compared at every unwrap.
    pub check_value: Vec<u8>,
    /// The public half, of a key that signs.
    pub public_key: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it became primary.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it was reported.
    pub reported_at: Option<DateTime<Utc>>,
}

/// Puts a key into a store that has it not.
///
/// # Errors
/// [`StoreError::Refused`] where its id or version is another key's here, or its state would let it encrypt.
pub async fn insert_restored(unit: &Unit, new: Restored) -> Result<Key, StoreError> {
    if matches!(new.state, KeyState::Active | KeyState::Pending) {
        let why = format!("key {} was restored, and never encrypts", new.id);
        return Err(StoreError::Refused(why));
    }
    let locked = keyrings::lock(unit, new.keyring).await?;
    let of_keyring = of_keyring(unit.db(), new.keyring).await?;
    if let Some(other) = of_keyring.iter().find(|one| one.version == new.version) {
        return Err(StoreError::Refused(format!(
            "version {} of keyring {} is key {} here, and key {} in the backup",
            new.version, locked.name, other.id, new.id
        )));
    }
    let (wrapped, master_key) = new.wrapped.unzip();
    let row = key::ActiveModel {
        key_id: Set(Id(new.id)),
        keyring_id: Set(new.keyring),
        version: Set(i32::try_from(new.version).unwrap_or(i32::MAX)),
        state: Set(Text(new.state)),
        algorithm: Set(Text(new.algorithm)),
        wrapped: Set(wrapped),
        check_value: Set(new.check_value),
        // How often it was used is not known (SP 800-38D §8.3), so nothing is drawn from it any more.
        used: Set(i64::try_from(HARD_LIMIT).expect("it is 2^32")),
        used_by_applications: Set(0),
        created_at: Set(new.created_at),
        activated_at: Set(new.activated_at),
        deactivated_at: Set(Some(unit.now())),
        expires_at: Set(None),
        master_key: Set(master_key),
        public_key: Set(new.public_key),
        // Processes that nobody stopped may hold a lease of before.
        longest_lease: Set(Some(longest_lease::millis(locked.policy.encrypt_lease))),
        leases_end_at: Set(None),
        reported_at: Set(new.reported_at),
        compromised_since: Set(None),
        emptied_at: Set(None),
        closed_at: Set(None),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("key {}", new.id));
    let row = row.insert(unit.db()).await.map_err(taken)?;
    Ok(StoredKey::from(row).key)
}

/// Gives a key its material back, wrapped by the master key of today. The caller has seen that it is the same key.
///
/// # Errors
/// [`StoreError::Stale`] where it changed meanwhile.
pub async fn put_back(
    unit: &Unit,
    key: &StoredKey,
    (wrapped, master_key): (Vec<u8>, String),
) -> Result<(), StoreError> {
    let row = key::ActiveModel {
        wrapped: Set(Some(wrapped)),
        master_key: Set(Some(master_key)),
        ..Default::default()
    };
    let same = match &key.wrapped {
        Some(before) => key::Column::Wrapped.eq(before.clone()),
        None => key::Column::Wrapped.is_null(),
    };
    let changed = key::Entity::update_many()
        .set(row)
        .filter(key::Column::KeyId.eq(Id(key.id)))
        .filter(key::Column::CheckValue.eq(key.check_value.clone()))
        .filter(same)
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id))
}

/// Has a key be what it was before the store was rolled back: never ACTIVE. If it was its keyring's primary, that has
/// none now.
///
/// # Errors
/// [`StoreError::Stale`] where it changed meanwhile.
pub async fn take_state(
    unit: &Unit,
    key: &Key,
    state: KeyState,
    reported_at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    let locked = keyrings::lock(unit, key.keyring_id).await?;
    let row = key::ActiveModel {
        state: Set(Text(state)),
        // Under a standby values may stand of the time that was lost.
        activated_at: Set(Some(key.activated_at.unwrap_or_else(|| unit.now()))),
        deactivated_at: Set(Some(key.deactivated_at.unwrap_or_else(|| unit.now()))),
        reported_at: Set(reported_at.or(key.reported_at)),
        used: Set(i64::try_from(HARD_LIMIT).expect("it is 2^32")),
        wrapped: match state {
            KeyState::Destroyed => Set(None),
            _ => NotSet,
        },
        ..Default::default()
    };
    let changed = key::Entity::update_many()
        .set(row)
        .filter(key::Column::KeyId.eq(Id(key.id)))
        .filter(key::Column::State.eq(Text(key.state)))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id))?;
    if locked.primary_key_id == Some(key.id) {
        let none = keyring::ActiveModel {
            id: Set(locked.id),
            primary_key_id: Set(None),
            ..Default::default()
        };
        none.update(unit.db()).await?;
    }
    Ok(())
}
