//! Keys: made as standby, switched to primary, counted.

use rekey_domain::{
    Algorithm, BackupProof, HARD_LIMIT, KeyId, KeyName, KeyState, KeyringPolicy, UsageBlock,
    take_block,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

pub use crate::entities::key::Model as Key;
use crate::{
    StoreError, Unit,
    entities::{key, keyring},
    keyrings::Keyring,
    stored::Text,
};

/// A key that was generated and wrapped, not yet stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its random id.
    pub id: KeyId,
    /// What it is for.
    pub algorithm: Algorithm,
    /// Wrapped by the master key.
    pub wrapped: Vec<u8>,
    /// Compared at every unwrap.
    pub check_value: Vec<u8>,
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
    Ok(keys.order_by_asc(key::Column::Version).all(db).await?)
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
    Ok(key::Entity::find_by_id(i64::from(id.value()))
        .one(db)
        .await?)
}

/// Stores a key as its keyring's standby.
///
/// # Errors
/// [`StoreError`] of the database; an id that is taken is one.
pub async fn insert_standby(unit: &Unit, keyring: Uuid, new: NewKey) -> Result<Key, StoreError> {
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
    };
    Ok(row.insert(unit.db()).await?)
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
        change_state(unit, &old, KeyState::Inactive, stamp).await?;
    }
    let stamp = key::ActiveModel {
        activated_at: Set(Some(unit.now())),
        expires_at: Set(Some(unit.now() + policy.key_lifetime)),
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
    if changed.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Stale {
            what: format!("key {}", key.id()),
        })
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
    let key = find(unit.db(), id).await?.ok_or_else(unknown)?;
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
