//! Bundles that stand at destinations, and keys that somebody wants backed up now.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rekey_domain::{DestinationName, KeyId};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::OnConflict,
};

use crate::{
    StoreError, Unit,
    backups::destinations::Since,
    backups::entities::{backup, backup_request},
    database::stored::{Id, Text},
};

/// A bundle at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The key that it holds.
    pub key: KeyId,
    /// Where.
    pub destination: DestinationName,
    /// Its name there, derived from its bytes.
    pub name: String,
    /// The BACKUP key that it is sealed under; of a BACKUP key, that key.
    pub backup_key: KeyId,
    /// The fingerprint of the RECOVERY key that it is sealed to.
    pub recovery: Option<String>,
    /// When it was stored.
    pub stored_at: DateTime<Utc>,
    /// When it was last found to hold what a new bundle would.
    pub confirmed_at: DateTime<Utc>,
}

impl Backup {
    /// Whether its name is one of a bundle of its key. A row that somebody altered is none.
    fn is_of_its_key(&self) -> bool {
        self.name.starts_with(&format!("bundles/{}/", self.key))
    }
}

impl From<backup::Model> for Backup {
    fn from(row: backup::Model) -> Self {
        Self {
            key: row.key_id.0,
            destination: row.destination.0,
            name: row.name,
            backup_key: row.backup_key_id.0,
            recovery: row.recovery,
            stored_at: row.stored_at,
            confirmed_at: row.confirmed_at,
        }
    }
}

/// A bundle that a destination has acknowledged.
#[derive(Debug, Clone)]
pub struct NewBackup<'a> {
    /// The key that it holds.
    pub key: KeyId,
    /// Where.
    pub destination: &'a DestinationName,
    /// Its name there.
    pub name: String,
    /// The BACKUP key that it is sealed under.
    pub backup_key: KeyId,
    /// The fingerprint of the RECOVERY key that it is sealed to.
    pub recovery: Option<String>,
}

/// Those at the places that destinations mean today.
async fn here(
    db: &impl ConnectionTrait,
    rows: Vec<backup::Model>,
) -> Result<Vec<Backup>, StoreError> {
    let since = Since::of(db).await?;
    let mut all: Vec<_> = rows.into_iter().map(Backup::from).collect();
    all.retain(|one| since.is_here(&one.destination, one.confirmed_at) && one.is_of_its_key());
    Ok(all)
}

/// Every bundle, the one last confirmed first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Backup>, StoreError> {
    let rows = backup::Entity::find()
        .order_by_desc(backup::Column::ConfirmedAt)
        .order_by_desc(backup::Column::Id);
    here(db, rows.all(db).await?).await
}

/// The bundles of a key, the one last confirmed first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_key(db: &impl ConnectionTrait, key: KeyId) -> Result<Vec<Backup>, StoreError> {
    let rows = backup::Entity::find()
        .filter(backup::Column::KeyId.eq(Id(key)))
        .order_by_desc(backup::Column::ConfirmedAt)
        .order_by_desc(backup::Column::Id);
    here(db, rows.all(db).await?).await
}

/// Notes that a bundle stands at a destination, now; answers whether it is new there.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note(unit: &Unit, new: NewBackup<'_>) -> Result<bool, StoreError> {
    let known = backup::Entity::find()
        .filter(backup::Column::Destination.eq(new.destination.as_str()))
        .filter(backup::Column::Name.eq(&new.name));
    let is_new = known.one(unit.db()).await?.is_none();
    let row = backup::ActiveModel {
        id: Set(unit.new_id()),
        key_id: Set(Id(new.key)),
        destination: Set(Text(new.destination.clone())),
        name: Set(new.name),
        backup_key_id: Set(Id(new.backup_key)),
        recovery: Set(new.recovery),
        stored_at: Set(unit.now()),
        confirmed_at: Set(unit.now()),
    };
    let again = OnConflict::columns([backup::Column::Destination, backup::Column::Name])
        .update_columns([
            backup::Column::ConfirmedAt,
            backup::Column::KeyId,
            backup::Column::BackupKeyId,
            backup::Column::Recovery,
        ])
        .to_owned();
    backup::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(is_new)
}

/// Lists a bundle no more, as it was taken away.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn forget(unit: &Unit, at: &DestinationName, name: &str) -> Result<(), StoreError> {
    backup::Entity::delete_many()
        .filter(backup::Column::Destination.eq(at.as_str()))
        .filter(backup::Column::Name.eq(name))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Has a key backed up at every destination as soon as can be.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn want(unit: &Unit, key: KeyId) -> Result<(), StoreError> {
    let row = backup_request::ActiveModel {
        id: Set(unit.new_id()),
        key_id: Set(Id(key)),
        wanted_at: Set(unit.now()),
    };
    let again = OnConflict::column(backup_request::Column::KeyId)
        .update_column(backup_request::Column::WantedAt)
        .to_owned();
    backup_request::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// When somebody last wanted keys backed up.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn wanted(
    db: &impl ConnectionTrait,
) -> Result<HashMap<KeyId, DateTime<Utc>>, StoreError> {
    let rows = backup_request::Entity::find().all(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.key_id.0, row.wanted_at))
        .collect())
}
