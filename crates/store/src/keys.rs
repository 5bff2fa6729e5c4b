//! Keys: made as standby, switched to primary, counted.

pub(crate) mod entities;
pub mod keyrings;
pub mod leases;

use std::ops::Deref;

use rekey_domain::{
    Algorithm, BackupProof, HARD_LIMIT, KeyId, KeyName, KeyState, KeyringPolicy, UsageBlock,
    take_block,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
    prelude::DateTimeUtc,
    sea_query::{Expr, ExprTrait, LockType},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::Text,
    keys::{
        entities::{key, keyring},
        keyrings::Keyring,
    },
};

/// A key that was generated and wrapped, not yet stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its random id.
    pub id: KeyId,
    /// How it encrypts, for good.
    pub algorithm: Algorithm,
    /// Wrapped by the master key.
    pub wrapped: Vec<u8>,
    /// The master key that wrapped it.
    pub master_key: String,
    /// Compared at every unwrap.
    pub check_value: Vec<u8>,
    /// The public half of a key that signs.
    pub public_key: Option<Vec<u8>>,
}

/// What is known of a key, without what the KMS opens: who does not unwrap it needs no right to that.
#[derive(Debug, Clone, PartialEq, Eq, DerivePartialModel)]
#[sea_orm(entity = "key::Entity")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Key {
    pub key_id: i64,
    pub keyring_id: Uuid,
    pub version: i32,
    pub state: Text<KeyState>,
    pub algorithm: Text<Algorithm>,
    pub used: i64,
    pub used_by_applications: i64,
    pub created_at: DateTimeUtc,
    pub activated_at: Option<DateTimeUtc>,
    pub deactivated_at: Option<DateTimeUtc>,
    pub expires_at: Option<DateTimeUtc>,
    pub master_key: Option<String>,
    pub public_key: Option<Vec<u8>>,
    pub longest_lease: Option<i64>,
    pub leases_end_at: Option<DateTimeUtc>,
}

/// A key with what the KMS opens, for who unwraps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// What is known of it.
    pub key: Key,
    /// Its material, wrapped by the master key; none where it was erased.
    pub wrapped: Option<Vec<u8>>,
    /// Compared at every unwrap.
    pub check_value: Vec<u8>,
}

impl Deref for StoredKey {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

impl From<key::Model> for StoredKey {
    fn from(row: key::Model) -> Self {
        Self {
            key: Key {
                key_id: row.key_id,
                keyring_id: row.keyring_id,
                version: row.version,
                state: row.state,
                algorithm: row.algorithm,
                used: row.used,
                used_by_applications: row.used_by_applications,
                created_at: row.created_at,
                activated_at: row.activated_at,
                deactivated_at: row.deactivated_at,
                expires_at: row.expires_at,
                master_key: row.master_key,
                public_key: row.public_key,
                longest_lease: row.longest_lease,
                leases_end_at: row.leases_end_at,
            },
            wrapped: row.wrapped,
            check_value: row.check_value,
        }
    }
}

impl Key {
    /// Its id in ciphertext.
    pub fn id(&self) -> KeyId {
        KeyId::new(
            u32::try_from(self.key_id).expect("the column holds only key ids, which have 32 bits"),
        )
    }

    /// Its version in its keyring.
    pub fn version(&self) -> u32 {
        u32::try_from(self.version).expect("versions count from 1")
    }

    /// Its name for people.
    pub fn name(&self, keyring: &Keyring) -> KeyName {
        KeyName {
            keyring: keyring.name.0.clone(),
            version: self.version(),
        }
    }
}

/// All keys of a keyring, first version first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_keyring(db: &impl ConnectionTrait, keyring: Uuid) -> Result<Vec<Key>, StoreError> {
    let keys = key::Entity::find().filter(key::Column::KeyringId.eq(keyring));
    let keys = keys.order_by_asc(key::Column::Version);
    Ok(keys.into_partial_model().all(db).await?)
}

/// The same, to be unwrapped.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn stored_of_keyring(
    db: &impl ConnectionTrait,
    keyring: Uuid,
) -> Result<Vec<StoredKey>, StoreError> {
    let keys = key::Entity::find().filter(key::Column::KeyringId.eq(keyring));
    let keys = keys.order_by_asc(key::Column::Version).all(db).await?;
    Ok(keys.into_iter().map(StoredKey::from).collect())
}

/// The keyring's standby key: the lowest pending version.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn standby(db: &impl ConnectionTrait, keyring: Uuid) -> Result<Option<Key>, StoreError> {
    Ok(of_keyring(db, keyring)
        .await?
        .into_iter()
        .find(|key| key.state.0 == KeyState::Pending))
}

/// The key with this id, of whatever keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(db: &impl ConnectionTrait, id: KeyId) -> Result<Option<Key>, StoreError> {
    let key = key::Entity::find_by_id(i64::from(id.value()));
    Ok(key.into_partial_model().one(db).await?)
}

/// The same, to be unwrapped.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find_stored(
    db: &impl ConnectionTrait,
    id: KeyId,
) -> Result<Option<StoredKey>, StoreError> {
    let key = key::Entity::find_by_id(i64::from(id.value())).one(db);
    Ok(key.await?.map(StoredKey::from))
}

/// Every key that still has wrapped material, of every keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn wrapped(db: &impl ConnectionTrait) -> Result<Vec<StoredKey>, StoreError> {
    let keys = key::Entity::find().filter(key::Column::Wrapped.is_not_null());
    let keys = keys.order_by_asc(key::Column::KeyId).all(db).await?;
    Ok(keys.into_iter().map(StoredKey::from).collect())
}

/// Replaces a key's wrapped material by the same key under `master_key`. The caller has seen that it
/// unwraps to the same key; its check value stays.
///
/// # Errors
/// [`StoreError::Stale`] where it was wrapped anew or erased meanwhile.
pub async fn rewrap(
    unit: &Unit,
    key: &StoredKey,
    wrapped: Vec<u8>,
    master_key: &str,
) -> Result<(), StoreError> {
    let row = key::ActiveModel {
        wrapped: Set(Some(wrapped)),
        master_key: Set(Some(master_key.to_owned())),
        ..Default::default()
    };
    let changed = key::Entity::update_many()
        .set(row)
        .filter(key::Column::KeyId.eq(key.key_id))
        .filter(key::Column::Wrapped.eq(key.wrapped.clone()))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id()))
}

/// Stores a key as its keyring's standby.
///
/// # Errors
/// [`StoreError::Stale`] when the id is taken, or when the keyring's algorithm changed since the key
/// was made: another key is to be made.
pub async fn insert_standby(unit: &Unit, keyring: Uuid, new: NewKey) -> Result<Key, StoreError> {
    let locked = keyrings::lock(unit, keyring).await?;
    if locked.algorithm.0 != new.algorithm {
        let what = format!("the algorithm of keyring {}", locked.name.0);
        return Err(StoreError::Stale { what });
    }
    let last = of_keyring(unit.db(), keyring)
        .await?
        .last()
        .map_or(0, |key| key.version);
    let row = key::ActiveModel {
        key_id: Set(i64::from(new.id.value())),
        keyring_id: Set(keyring),
        version: Set(last + 1),
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
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("key {}", new.id));
    let row = row.insert(unit.db()).await.map_err(taken)?;
    Ok(StoredKey::from(row).key)
}

/// Has standbys of other algorithms than `algorithm` destroyed unused, and gives them. Their versions
/// and ids are never used again.
///
/// # Errors
/// [`StoreError::Stale`] where one became primary meanwhile.
pub async fn retire_standbys(
    unit: &Unit,
    keyring: Uuid,
    algorithm: Algorithm,
) -> Result<Vec<Key>, StoreError> {
    keyrings::lock(unit, keyring).await?;
    let mut waiting = of_keyring(unit.db(), keyring).await?;
    waiting.retain(|key| key.state.0 == KeyState::Pending && key.algorithm.0 != algorithm);
    for key in &waiting {
        change_state(unit, key, KeyState::Destroying, Default::default()).await?;
    }
    Ok(waiting)
}

/// The switch: the standby becomes primary, the primary inactive, in one unit.
///
/// # Errors
/// [`StoreError::Refused`] where the backup gate or the state machine says no,
/// [`StoreError::Stale`] where a state changed meanwhile.
pub async fn switch(
    unit: &Unit,
    keyring: &Keyring,
    standby: &Key,
    policy: &KeyringPolicy,
    proof: Option<BackupProof>,
) -> Result<(), StoreError> {
    let locked = keyrings::lock(unit, keyring.id).await?;
    let lease = locked.policy.0.encrypt_lease;
    let required = policy.backup == rekey_domain::BackupPolicy::Required;
    standby
        .state
        .0
        .activate(required, proof)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let primary = of_keyring(unit.db(), keyring.id)
        .await?
        .into_iter()
        .find(|key| key.state.0 == KeyState::Active);
    if let Some(old) = primary {
        let stamp = key::ActiveModel {
            deactivated_at: Set(Some(unit.now())),
            ..Default::default()
        };
        leases::raise_longest(unit, old.key_id, lease).await?;
        change_state(unit, &old, KeyState::Inactive, stamp).await?;
    }
    let stamp = key::ActiveModel {
        activated_at: Set(Some(unit.now())),
        expires_at: Set(Some(unit.now() + policy.key_lifetime)),
        longest_lease: Set(Some(leases::millis(lease))),
        ..Default::default()
    };
    change_state(unit, standby, KeyState::Active, stamp).await?;
    let row = keyring::ActiveModel {
        id: Set(keyring.id),
        primary_key_id: Set(Some(standby.key_id)),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}

async fn change_state(
    unit: &Unit,
    key: &Key,
    next: KeyState,
    mut stamp: key::ActiveModel,
) -> Result<(), StoreError> {
    let state = key
        .state
        .0
        .become_state(next)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    stamp.state = Set(Text(state));
    let changed = key::Entity::update_many()
        .set(stamp)
        .filter(key::Column::KeyId.eq(key.key_id))
        .filter(key::Column::State.eq(key.state.clone()))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id()))
}

fn one_changed(rows: u64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Stale { what: what() })
    }
}

/// Takes a block of encryptions from a key's budget (SP 800-38D §8.3).
///
/// # Errors
/// [`StoreError::Refused`] when the budget is spent.
pub async fn take_usage(
    unit: &Unit,
    id: KeyId,
    wanted: u64,
    by_application: bool,
) -> Result<UsageBlock, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("key {id}"),
        known: Vec::new(),
    };
    let key: Option<Key> = key::Entity::find_by_id(i64::from(id.value()))
        .lock(LockType::Update)
        .into_partial_model()
        .one(unit.db())
        .await?;
    let key = key.ok_or_else(unknown)?;
    let used = u64::try_from(key.used).unwrap_or(HARD_LIMIT);
    let block = take_block(used, wanted).map_err(|error| StoreError::Refused(error.to_string()))?;
    let size = i64::try_from(block.size).expect("blocks are at most 2^20");
    let by_applications = if by_application { size } else { 0 };
    use key::Column::{KeyId as Id, Used, UsedByApplications};
    let taken = key::Entity::update_many()
        .col_expr(Used, Expr::col(Used).add(size))
        .col_expr(
            UsedByApplications,
            Expr::col(UsedByApplications).add(by_applications),
        )
        .filter(Id.eq(key.key_id))
        .filter(Used.eq(key.used))
        .exec(unit.db())
        .await?;
    if taken.rows_affected == 1 {
        Ok(block)
    } else {
        Err(StoreError::Stale {
            what: format!("usage of key {id}"),
        })
    }
}

#[cfg(test)]
mod tests;
