//! Keyrings and the deployment they belong to.

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, KeyId, KeyringName, KeyringPolicy, Purpose};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockType, OnConflict},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::{
        entities::deployment,
        stored::{Id, Json, Text},
    },
    keys::{self, entities::keyring},
};

/// A named line of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: KeyringName,
    /// What its keys are for.
    pub purpose: Purpose,
    /// How the keys encrypt that it makes from now on.
    pub algorithm: Algorithm,
    /// How it rotates.
    pub policy: KeyringPolicy,
    /// The key that encrypts; none before the first switch.
    pub primary_key_id: Option<KeyId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl From<keyring::Model> for Keyring {
    fn from(row: keyring::Model) -> Self {
        Self {
            id: row.id,
            name: row.name.0,
            purpose: row.purpose.0,
            algorithm: row.algorithm.0,
            policy: row.policy.0,
            primary_key_id: row.primary_key_id.map(|Id(id)| id),
            created_at: row.created_at,
        }
    }
}

/// The deployment's id; made when it is first asked for in a unit.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn ensure_deployment(unit: &Unit) -> Result<Uuid, StoreError> {
    if let Some(found) = deployment::Entity::find().one(unit.db()).await? {
        return Ok(found.id);
    }
    let row = deployment::ActiveModel {
        id: Set(Uuid::now_v7()),
        created_at: Set(unit.now()),
        suspended_because: Set(None),
        suspended_at: Set(None),
    };
    // There is one at most, by an index; of two units that make it, one waits for the other.
    deployment::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(unit.db())
        .await?;
    deployment(unit.db()).await
}

/// Makes a store the store of a deployment that there was before.
///
/// # Errors
/// [`StoreError::Stale`] where it is a deployment's already.
pub async fn restore_deployment(unit: &Unit, id: Uuid) -> Result<(), StoreError> {
    let row = deployment::ActiveModel {
        id: Set(id),
        created_at: Set(unit.now()),
        suspended_because: Set(None),
        suspended_at: Set(None),
    };
    let taken = |error| StoreError::stale_if_taken(error, "the store's deployment".to_owned());
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(())
}

/// Makes a keyring that there was before, without keys.
///
/// # Errors
/// [`StoreError::Stale`] when its name or id is taken.
pub async fn restore(unit: &Unit, keyring: &Keyring) -> Result<(), StoreError> {
    let row = keyring::ActiveModel {
        id: Set(keyring.id),
        name: Set(Text(keyring.name.clone())),
        purpose: Set(Text(keyring.purpose)),
        algorithm: Set(Text(keyring.algorithm)),
        policy: Set(Json(keyring.policy.clone())),
        primary_key_id: Set(None),
        created_at: Set(keyring.created_at),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("keyring {}", keyring.name));
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(())
}

/// The deployment's id.
///
/// # Errors
/// [`StoreError::Unknown`] before `rekey init`.
pub async fn deployment(db: &impl ConnectionTrait) -> Result<Uuid, StoreError> {
    let unknown = || StoreError::Unknown {
        what: "deployment here; run rekey init".to_owned(),
        known: Vec::new(),
    };
    find_deployment(db).await?.ok_or_else(unknown)
}

/// The deployment's id, if there is one yet.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find_deployment(db: &impl ConnectionTrait) -> Result<Option<Uuid>, StoreError> {
    let found = deployment::Entity::find().one(db).await?;
    Ok(found.map(|row| row.id))
}

/// Every keyring, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Keyring>, StoreError> {
    let keyrings = keyring::Entity::find().order_by_asc(keyring::Column::Name);
    let keyrings = keyrings.all(db).await?;
    Ok(keyrings.into_iter().map(Keyring::from).collect())
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
        .map(|keyring| keyring.name.to_string())
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
    let found = keyring::Entity::find().filter(keyring::Column::Name.eq(name.as_str()));
    Ok(found.one(db).await?.map(Keyring::from))
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
    let found = keyring::Entity::find_by_id(id).one(db).await?;
    found.map(Keyring::from).ok_or_else(unknown)
}

/// The keyring of this id, locked until the unit ends, so that units decide about its keys and rotations one after
/// another.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn lock(unit: &Unit, id: Uuid) -> Result<Keyring, StoreError> {
    let found = keyring::Entity::find_by_id(id)
        .lock(LockType::Update)
        .one(unit.db())
        .await?;
    match found {
        Some(found) => Ok(found.into()),
        None => by_id(unit.db(), id).await,
    }
}

/// Creates a keyring without keys.
///
/// # Errors
/// [`StoreError::Stale`] when the name is taken.
pub async fn create(
    unit: &Unit,
    name: &KeyringName,
    purpose: Purpose,
    algorithm: Algorithm,
    policy: &KeyringPolicy,
) -> Result<Keyring, StoreError> {
    let row = keyring::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(Text(name.clone())),
        purpose: Set(Text(purpose)),
        algorithm: Set(Text(algorithm)),
        policy: Set(Json(policy.clone())),
        primary_key_id: Set(None),
        created_at: Set(unit.now()),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("keyring {name}"));
    Ok(row.insert(unit.db()).await.map_err(taken)?.into())
}

/// Replaces a keyring's policy. Leases given under the earlier policy live on, so the primary key notes the longer of
/// both lengths.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_policy(
    unit: &Unit,
    keyring: Uuid,
    policy: &KeyringPolicy,
) -> Result<(), StoreError> {
    let before = lock(unit, keyring).await?;
    if let Some(primary) = before.primary_key_id {
        let longest = before.policy.encrypt_lease.max(policy.encrypt_lease);
        keys::longest_lease::raise_longest(unit, primary, longest).await?;
    }
    let row = keyring::ActiveModel {
        id: Set(keyring),
        policy: Set(Json(policy.clone())),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}

/// Replaces the algorithm of the keys that a keyring makes from now on; those there are keep theirs.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_algorithm(
    unit: &Unit,
    keyring: Uuid,
    algorithm: Algorithm,
) -> Result<(), StoreError> {
    let row = keyring::ActiveModel {
        id: Set(keyring),
        algorithm: Set(Text(algorithm)),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore, loser},
    };

    async fn ensure(store: &Store) -> Uuid {
        let unit = store.begin().await.unwrap();
        let id = ensure_deployment(&unit).await.unwrap();
        unit.commit().await.unwrap();
        id
    }

    #[tokio::test]
    async fn programs_that_make_the_deployment_at_once_make_one() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let (here, there) = tokio::join!(ensure(&store), ensure(&elsewhere));
            assert_eq!(here, there);
            assert_eq!(deployment(store.db()).await.unwrap(), here);
        }
    }

    #[tokio::test]
    async fn a_name_that_another_took_meanwhile_is_looked_up_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let name: KeyringName = "phi".parse().unwrap();
            let create = async |store: Store| {
                let unit = store.begin().await?;
                create(
                    &unit,
                    &name,
                    Purpose::Phi,
                    Algorithm::default(),
                    &KeyringPolicy::default(),
                )
                .await?;
                unit.commit().await
            };
            let made = tokio::join!(create(store.clone()), create(store.another().await));
            let late = loser(made);
            assert!(matches!(late, StoreError::Stale { .. }), "{late}");
        }
    }
}
