//! Keyrings and the deployment they belong to.

use rekey_domain::{Algorithm, KeyringName, KeyringPolicy, Purpose};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder,
};
use uuid::Uuid;

pub use crate::entities::keyring::Model as Keyring;
use crate::{
    StoreError, Unit,
    entities::{deployment, keyring},
    stored::{Json, Text},
};

/// The deployment's id; made when it is first asked for in a unit.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn ensure_deployment(unit: &Unit) -> Result<Uuid, StoreError> {
    if let Some(found) = deployment::Entity::find().one(unit.db()).await? {
        return Ok(found.id);
    }
    let id = Uuid::now_v7();
    let row = deployment::ActiveModel {
        id: Set(id),
        created_at: Set(unit.now()),
    };
    deployment::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(id)
}

/// The deployment's id.
///
/// # Errors
/// [`StoreError::Unknown`] before `rekey init`.
pub async fn deployment(db: &impl ConnectionTrait) -> Result<Uuid, StoreError> {
    let found = deployment::Entity::find().one(db).await?;
    let unknown = || StoreError::Unknown {
        what: "deployment here; run rekey init".to_owned(),
        known: Vec::new(),
    };
    found.map(|row| row.id).ok_or_else(unknown)
}

/// Every keyring, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Keyring>, StoreError> {
    Ok(keyring::Entity::find()
        .order_by_asc(keyring::Column::Name)
        .all(db)
        .await?)
}

/// The keyring of this name.
///
/// # Errors
/// [`StoreError::Unknown`] lists the names there are.
pub async fn by_name(db: &impl ConnectionTrait, name: &KeyringName) -> Result<Keyring, StoreError> {
    if let Some(found) = find(db, name).await? {
        return Ok(found);
    }
    let known = all(db)
        .await?
        .into_iter()
        .map(|keyring| keyring.name.0.to_string())
        .collect();
    Err(StoreError::Unknown {
        what: format!("keyring {name}"),
        known,
    })
}

/// The keyring of this name, if there is one.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(
    db: &impl ConnectionTrait,
    name: &KeyringName,
) -> Result<Option<Keyring>, StoreError> {
    Ok(keyring::Entity::find()
        .filter(keyring::Column::Name.eq(name.as_str()))
        .one(db)
        .await?)
}

/// The keyring of this id.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Keyring, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("keyring with id {id}"),
        known: Vec::new(),
    };
    keyring::Entity::find_by_id(id)
        .one(db)
        .await?
        .ok_or_else(unknown)
}

/// Creates a keyring without keys.
///
/// # Errors
/// [`StoreError`] of the database; a name that is taken is one.
pub async fn create(
    unit: &Unit,
    name: &KeyringName,
    purpose: Purpose,
    policy: &KeyringPolicy,
) -> Result<Keyring, StoreError> {
    let row = keyring::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(Text(name.clone())),
        purpose: Set(Text(purpose)),
        algorithm: Set(Text(Algorithm::Aes256Gcm)),
        policy: Set(Json(policy.clone())),
        primary_key_id: Set(None),
        created_at: Set(unit.now()),
    };
    Ok(row.insert(unit.db()).await?)
}

/// Replaces a keyring's policy.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_policy(
    unit: &Unit,
    keyring: Uuid,
    policy: &KeyringPolicy,
) -> Result<(), StoreError> {
    let row = keyring::ActiveModel {
        id: Set(keyring),
        policy: Set(Json(policy.clone())),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}
