//! RECOVERY keys: the public half of each, and how many hold shares of the private one. That is nowhere here.

use chrono::{DateTime, Utc};
use rekey_domain::Principal;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, QueryOrder};
use uuid::Uuid;

use crate::{StoreError, Unit, backups::entities::recovery_key, database::stored::Text};

/// A RECOVERY key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecoveryKey {
    /// What it is called by.
    pub fingerprint: String,
    /// The public half.
    pub public_key: Vec<u8>,
    /// The set of its shares.
    pub share_set: Uuid,
    /// How many shares make it again.
    pub threshold: u32,
    /// How many there are.
    pub shares: u32,
    /// Who made it.
    pub made_by: Principal,
    /// When.
    pub made_at: DateTime<Utc>,
    /// When another took its place.
    pub ended_at: Option<DateTime<Utc>>,
}

impl From<recovery_key::Model> for StoredRecoveryKey {
    fn from(row: recovery_key::Model) -> Self {
        Self {
            fingerprint: row.fingerprint,
            public_key: row.public_key,
            share_set: row.share_set,
            threshold: row.threshold.unsigned_abs(),
            shares: row.shares.unsigned_abs(),
            made_by: row.made_by.0,
            made_at: row.made_at,
            ended_at: row.ended_at,
        }
    }
}

/// Every RECOVERY key, the newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<StoredRecoveryKey>, StoreError> {
    let rows = recovery_key::Entity::find()
        .order_by_desc(recovery_key::Column::MadeAt)
        .order_by_desc(recovery_key::Column::Id);
    let rows = rows.all(db).await?.into_iter();
    Ok(rows.map(StoredRecoveryKey::from).collect())
}

/// A RECOVERY key that was made and split.
#[derive(Debug, Clone)]
pub struct NewRecoveryKey<'a> {
    /// What it is called by.
    pub fingerprint: String,
    /// The public half.
    pub public_key: Vec<u8>,
    /// The set of its shares.
    pub share_set: Uuid,
    /// How many shares make it again.
    pub threshold: u8,
    /// How many there are.
    pub shares: u8,
    /// Who made it.
    pub made_by: &'a Principal,
}

/// Stores the public half of a RECOVERY key.
///
/// # Errors
/// [`StoreError::Stale`] where it is there.
pub async fn add(unit: &Unit, new: NewRecoveryKey<'_>) -> Result<(), StoreError> {
    let what = format!("RECOVERY key {}", new.fingerprint);
    let row = recovery_key::ActiveModel {
        id: Set(unit.new_id()),
        fingerprint: Set(new.fingerprint),
        public_key: Set(new.public_key),
        share_set: Set(new.share_set),
        threshold: Set(i32::from(new.threshold)),
        shares: Set(i32::from(new.shares)),
        made_by: Set(Text(new.made_by.clone())),
        made_at: Set(unit.now()),
        ended_at: Set(None),
    };
    let taken = |error| StoreError::stale_if_taken(error, what);
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(())
}
