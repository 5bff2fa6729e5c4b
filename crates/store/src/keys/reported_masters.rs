//! Master keys that were reported: whoever has one has every key that was ever under it, so no standby of it is used.

use chrono::{DateTime, Utc};
use rekey_domain::KeyState;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
};

use super::{Key, compromise, of_keyring};
use crate::{
    StoreError, Unit,
    keys::{entities::reported_master_key, keyrings::Keyring},
};

/// A master key that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedMaster {
    /// Its id at the KMS.
    pub master_key: String,
    /// When it was reported first.
    pub reported_at: DateTime<Utc>,
    /// Since when others know it, as was said.
    pub since: Option<DateTime<Utc>>,
    /// Keys that were made by then may have been under it, whatever they are under now; none: those alone that are.
    pub exposes_until: Option<DateTime<Utc>>,
}

impl From<reported_master_key::Model> for ReportedMaster {
    fn from(row: reported_master_key::Model) -> Self {
        Self {
            master_key: row.master_key,
            reported_at: row.reported_at,
            since: row.since,
            exposes_until: row.exposes_until,
        }
    }
}

impl ReportedMaster {
    /// Whether whoever has it and a copy of the store has this key.
    pub fn exposes(&self, key: &Key) -> bool {
        let is_under = key.master_key.as_ref() == Some(&self.master_key);
        is_under || self.exposes_until.is_some_and(|at| key.created_at <= at)
    }
}

/// What was noted of a master key, if it was ever reported.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(
    db: &impl ConnectionTrait,
    master_key: &str,
) -> Result<Option<ReportedMaster>, StoreError> {
    let found = reported_master_key::Entity::find()
        .filter(reported_master_key::Column::MasterKey.eq(master_key));
    Ok(found.one(db).await?.map(ReportedMaster::from))
}

/// Every master key that was reported.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<ReportedMaster>, StoreError> {
    let all = reported_master_key::Entity::find().all(db).await?;
    Ok(all.into_iter().map(ReportedMaster::from).collect())
}

/// Notes that a master key was reported. From the commit on no standby under it is stored or used; every keyring is
/// locked, so that none is stored at the same time.
///
/// # Errors
/// [`StoreError::Stale`] where it was noted meanwhile.
pub async fn note(
    unit: &Unit,
    master_key: &str,
    since: Option<DateTime<Utc>>,
    exposes_until: Option<DateTime<Utc>>,
) -> Result<ReportedMaster, StoreError> {
    let row = reported_master_key::ActiveModel {
        id: Set(unit.new_id()),
        master_key: Set(master_key.to_owned()),
        reported_at: Set(unit.now()),
        since: Set(since),
        exposes_until: Set(exposes_until),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("master key {master_key}"));
    Ok(row.insert(unit.db()).await.map_err(taken)?.into())
}

/// Stops the keys of a keyring that a reported master key exposes and that encrypt nothing: standbys, which are never
/// used, and keys that were replaced. Gives them. The keyring is locked.
///
/// # Errors
/// As [`compromise`].
pub async fn stop_exposed(
    unit: &Unit,
    keyring: &Keyring,
    reported: &ReportedMaster,
    which: impl Fn(&Key) -> bool,
) -> Result<Vec<Key>, StoreError> {
    let is_stopped = |key: &Key| {
        let encrypts_nothing = matches!(key.state, KeyState::Pending | KeyState::Inactive);
        encrypts_nothing && reported.exposes(key) && which(key)
    };
    let mut exposed = of_keyring(unit.db(), keyring.id).await?;
    exposed.retain(is_stopped);
    for key in &exposed {
        compromise(unit, keyring, key, reported.since).await?;
    }
    Ok(exposed)
}

/// Whether the key is under a master key that was reported.
///
/// # Errors
/// [`StoreError`] of the database.
pub(super) async fn is_under_one(
    db: &impl ConnectionTrait,
    master_key: Option<&str>,
) -> Result<bool, StoreError> {
    match master_key {
        Some(master_key) => Ok(find(db, master_key).await?.is_some()),
        None => Ok(false),
    }
}
