//! Keys that were reported compromised: stopped, or marked until they can be; marked as empty, and no longer so.

use chrono::{DateTime, Utc};
use rekey_domain::{KeyId, KeyState};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Key, change_state, longest_lease, one_changed};
use crate::{
    StoreError, Unit,
    database::stored::Id,
    keys::{entities::key, keyrings::Keyring},
};

/// Stops a key: nothing is encrypted under it from the commit on, except under leases that were given while it was
/// primary. The keyring is locked.
///
/// # Errors
/// [`StoreError::Refused`] where the state has no such arrow, [`StoreError::Stale`] where it changed meanwhile.
pub async fn compromise(
    unit: &Unit,
    keyring: &Keyring,
    key: &Key,
    since: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    let mut stamp = reported(unit, key, since);
    if key.state == KeyState::Active {
        longest_lease::raise_longest(unit, key.id, keyring.policy.encrypt_lease).await?;
        stamp.deactivated_at = Set(Some(unit.now()));
    }
    change_state(unit, key, KeyState::Compromised, stamp).await
}

/// Notes that a key was reported, and lets it encrypt until another can take its place.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_report(
    unit: &Unit,
    key: &Key,
    since: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    set(unit, key.id, reported(unit, key, since)).await
}

/// Notes that others know a key since then.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn known_since(unit: &Unit, key: &Key, since: DateTime<Utc>) -> Result<(), StoreError> {
    if key.compromised_since.is_some_and(|known| known <= since) {
        return Ok(());
    }
    let change = key::ActiveModel {
        compromised_since: Set(Some(since)),
        ..Default::default()
    };
    set(unit, key.id, change).await
}

/// Notes that no value is left under a compromised key.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_emptied(unit: &Unit, key: &Key) -> Result<(), StoreError> {
    let change = key::ActiveModel {
        emptied_at: Set(Some(unit.now())),
        ..Default::default()
    };
    set(unit, key.id, change).await
}

/// Notes that values stand under a compromised key again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn no_longer_empty(unit: &Unit, key: &Key) -> Result<(), StoreError> {
    let change = key::ActiveModel {
        emptied_at: Set(None),
        ..Default::default()
    };
    set(unit, key.id, change).await
}

/// Notes that all was moved that was written in time under the compromised keys of a keyring. What is found under them
/// from now on is left as it is.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn close(unit: &Unit, keyring: Uuid) -> Result<(), StoreError> {
    let change = key::ActiveModel {
        closed_at: Set(Some(unit.now())),
        ..Default::default()
    };
    key::Entity::update_many()
        .set(change)
        .filter(key::Column::KeyringId.eq(keyring))
        .filter(key::Column::State.eq(KeyState::Compromised.to_string()))
        .filter(key::Column::ActivatedAt.is_not_null())
        .filter(key::Column::ClosedAt.is_null())
        .exec(unit.db())
        .await?;
    Ok(())
}

/// The time of the first report counts, and of all dates since when others know the key the earliest.
fn reported(unit: &Unit, key: &Key, since: Option<DateTime<Utc>>) -> key::ActiveModel {
    let earliest = [key.compromised_since, since].into_iter().flatten().min();
    key::ActiveModel {
        reported_at: Set(Some(key.reported_at.unwrap_or_else(|| unit.now()))),
        compromised_since: Set(earliest),
        ..Default::default()
    }
}

async fn set(unit: &Unit, id: KeyId, change: key::ActiveModel) -> Result<(), StoreError> {
    let changed = key::Entity::update_many()
        .set(change)
        .filter(key::Column::KeyId.eq(Id(id)))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {id}"))
}
