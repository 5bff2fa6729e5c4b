//! Keys: made as standby, switched to primary, counted.

mod compromised;
pub(crate) mod entities;
pub mod keyrings;
pub mod leases;
mod longest_lease;
pub mod reported_masters;
mod restored;
mod rewrapped;
mod standbys;
pub mod suspension;

use std::{collections::HashSet, ops::Deref, time::Duration};

use chrono::{DateTime, Utc};
use rekey_domain::{
    Algorithm, BackupProof, KEY_SETTLES, KeyId, KeyName, KeyState, KeyringPolicy, UsageBlock,
    take_block,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbBackend, DerivePartialModel, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, LockType},
};
use uuid::Uuid;

pub use crate::keys::{
    compromised::{close, compromise, known_since, no_longer_empty, note_emptied, note_report},
    restored::{Restored, insert_restored, put_back, take_state},
    rewrapped::rewrap,
    standbys::{insert_standby, standby},
};
use crate::{
    StoreError, Unit,
    database::stored::{Id, Text},
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id in ciphertext.
    pub id: KeyId,
    /// Its keyring.
    pub keyring_id: Uuid,
    /// Its version in its keyring, from 1.
    pub version: u32,
    /// What it may do.
    pub state: KeyState,
    /// How it encrypts.
    pub algorithm: Algorithm,
    /// Encryptions drawn from its budget.
    pub used: u64,
    /// Those of them that applications drew.
    pub used_by_applications: u64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it became primary.
    pub activated_at: Option<DateTime<Utc>>,
    /// When another took its place.
    pub deactivated_at: Option<DateTime<Utc>>,
    /// When its lifetime ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// The master key that wrapped it.
    pub master_key: Option<String>,
    /// The public half, of a key that signs.
    pub public_key: Option<Vec<u8>>,
    /// The longest encrypt lease that was ever given under it; none: not known.
    pub longest_lease: Option<Duration>,
    /// When the last lease under it ends, once it was replaced and that was found out.
    pub leases_end_at: Option<DateTime<Utc>>,
    /// When it was reported compromised.
    pub reported_at: Option<DateTime<Utc>>,
    /// Since when others know it, as far as that was said.
    pub compromised_since: Option<DateTime<Utc>>,
    /// When a rotation found that no value is left under it, once it was compromised.
    pub emptied_at: Option<DateTime<Utc>>,
    /// When all was moved that was written under it in time, once it was compromised: what is found later is left.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Its columns, without those that need a right to unwrap.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "key::Entity")]
struct KeyRow {
    key_id: Id,
    keyring_id: Uuid,
    version: i32,
    state: Text<KeyState>,
    algorithm: Text<Algorithm>,
    used: i64,
    used_by_applications: i64,
    created_at: DateTime<Utc>,
    activated_at: Option<DateTime<Utc>>,
    deactivated_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    master_key: Option<String>,
    public_key: Option<Vec<u8>>,
    longest_lease: Option<i64>,
    leases_end_at: Option<DateTime<Utc>>,
    reported_at: Option<DateTime<Utc>>,
    compromised_since: Option<DateTime<Utc>>,
    emptied_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
}

impl From<KeyRow> for Key {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.key_id.0,
            keyring_id: row.keyring_id,
            version: row.version.unsigned_abs(),
            state: row.state.0,
            algorithm: row.algorithm.0,
            used: row.used.unsigned_abs(),
            used_by_applications: row.used_by_applications.unsigned_abs(),
            created_at: row.created_at,
            activated_at: row.activated_at,
            deactivated_at: row.deactivated_at,
            expires_at: row.expires_at,
            master_key: row.master_key,
            public_key: row.public_key,
            longest_lease: row
                .longest_lease
                .map(|lease| Duration::from_millis(lease.unsigned_abs())),
            leases_end_at: row.leases_end_at,
            reported_at: row.reported_at,
            compromised_since: row.compromised_since,
            emptied_at: row.emptied_at,
            closed_at: row.closed_at,
        }
    }
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
        let known = KeyRow {
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
            reported_at: row.reported_at,
            compromised_since: row.compromised_since,
            emptied_at: row.emptied_at,
            closed_at: row.closed_at,
        };
        Self {
            key: known.into(),
            wrapped: row.wrapped,
            check_value: row.check_value,
        }
    }
}

impl Key {
    /// Until when nothing is encrypted under it, for a failover may still lose it; none: a SQLite store has no replicas.
    pub fn settles_at(&self, db: &impl ConnectionTrait) -> Option<DateTime<Utc>> {
        let has_replicas = db.get_database_backend() == DbBackend::Postgres;
        has_replicas.then(|| self.created_at + KEY_SETTLES)
    }

    /// Its name for people.
    pub fn name(&self, keyring: &Keyring) -> KeyName {
        KeyName {
            keyring: keyring.name.clone(),
            version: self.version,
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
    let keys = keys.into_partial_model::<KeyRow>().all(db).await?;
    Ok(keys.into_iter().map(Key::from).collect())
}

/// Refuses what was sealed under a key that was replaced since, in another unit than this.
///
/// # Errors
/// [`StoreError::Stale`] where it was; sealed anew it goes through.
pub async fn refuse_replaced(unit: &Unit, id: KeyId) -> Result<(), StoreError> {
    let found = find(unit.db(), id).await?;
    // The unit that replaces a key dates that with its own time.
    let holds = |key: Key| key.state == KeyState::Active || key.deactivated_at == Some(unit.now());
    if found.is_some_and(holds) {
        return Ok(());
    }
    let what = format!("key {id}, under which this was sealed,");
    Err(StoreError::Stale { what })
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

/// The keys whose values a rotation to `target` leaves alone: the target, and keys that became primary later. Values
/// under a later key that never became primary are forged.
pub fn settled(keys: &[Key], target: Option<KeyId>) -> HashSet<KeyId> {
    let target = keys.iter().find(|key| Some(key.id) == target);
    let is_settled = |key: &&Key| {
        let later = target.is_some_and(|target| key.version > target.version);
        target.is_some_and(|target| key.id == target.id) || (later && key.activated_at.is_some())
    };
    let settled = keys.iter().filter(is_settled);
    settled.map(|key| key.id).collect()
}

/// The key with this id, of whatever keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(db: &impl ConnectionTrait, id: KeyId) -> Result<Option<Key>, StoreError> {
    let key = key::Entity::find_by_id(Id(id)).into_partial_model::<KeyRow>();
    Ok(key.one(db).await?.map(Key::from))
}

/// The same, to be unwrapped.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find_stored(
    db: &impl ConnectionTrait,
    id: KeyId,
) -> Result<Option<StoredKey>, StoreError> {
    let key = key::Entity::find_by_id(Id(id)).one(db);
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
    waiting.retain(|key| key.state == KeyState::Pending && key.algorithm != algorithm);
    for key in &waiting {
        change_state(unit, key, KeyState::Destroying, Default::default()).await?;
    }
    Ok(waiting)
}

/// The switch, in one unit: the standby becomes primary, and the primary inactive, or compromised if it was reported
/// and went on only until it could be replaced.
///
/// # Errors
/// [`StoreError::Refused`] where the backup gate or the state machine says no,
/// [`StoreError::Stale`] where a state changed meanwhile.
pub async fn switch(
    unit: &Unit,
    keyring: &Keyring,
    next: &Key,
    policy: &KeyringPolicy,
    proof: Option<BackupProof>,
) -> Result<(), StoreError> {
    let locked = keyrings::lock(unit, keyring.id).await?;
    let lease = locked.policy.encrypt_lease;
    let required = policy.backup == rekey_domain::BackupPolicy::Required;
    next.state
        .activate(required, proof)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let primary = of_keyring(unit.db(), keyring.id)
        .await?
        .into_iter()
        .find(|key| key.state == KeyState::Active);
    if let Some(old) = primary {
        let stamp = key::ActiveModel {
            deactivated_at: Set(Some(unit.now())),
            ..Default::default()
        };
        longest_lease::raise_longest(unit, old.id, lease).await?;
        let retired = match old.reported_at {
            Some(_) => KeyState::Compromised,
            None => KeyState::Inactive,
        };
        change_state(unit, &old, retired, stamp).await?;
    }
    let stamp = key::ActiveModel {
        activated_at: Set(Some(unit.now())),
        expires_at: Set(Some(unit.now() + policy.key_lifetime)),
        longest_lease: Set(Some(longest_lease::millis(lease))),
        ..Default::default()
    };
    change_state(unit, next, KeyState::Active, stamp).await?;
    let row = keyring::ActiveModel {
        id: Set(keyring.id),
        primary_key_id: Set(Some(Id(next.id))),
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
        .become_state(next)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    stamp.state = Set(Text(state));
    let changed = key::Entity::update_many()
        .set(stamp)
        .filter(key::Column::KeyId.eq(Id(key.id)))
        .filter(key::Column::State.eq(Text(key.state)))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id))
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
/// [`StoreError::Refused`] when the budget is spent, or in a state in which nothing is encrypted;
/// [`StoreError::Compromised`].
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
    let key = key::Entity::find_by_id(Id(id))
        .lock(LockType::Update)
        .into_partial_model::<KeyRow>()
        .one(unit.db())
        .await?;
    let key = key.ok_or_else(unknown)?;
    let state = key.state.0;
    if state == KeyState::Compromised {
        return Err(StoreError::Compromised { key: id });
    }
    if !state.may_be_drawn_on() {
        let why = format!("key {id} is {state}, and nothing is encrypted under it");
        return Err(StoreError::Refused(why));
    }
    let block = take_block(key.used.unsigned_abs(), wanted)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let size = i64::try_from(block.size).expect("blocks are at most 2^20");
    let by_applications = if by_application { size } else { 0 };
    use key::Column::{Used, UsedByApplications};
    let taken = key::Entity::update_many()
        .col_expr(Used, Expr::col(Used).add(size))
        .col_expr(
            UsedByApplications,
            Expr::col(UsedByApplications).add(by_applications),
        )
        .filter(key::Column::KeyId.eq(Id(id)))
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
