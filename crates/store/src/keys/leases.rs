//! Encrypt leases under a key: the longest that was ever given, and when the last one ends.
//!
//! One row holds the policy and the primary key that leases are given by. So the policies in force while a key was
//! primary limit its leases, and giving a lease needs no write.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, KeyState, leases_end};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use uuid::Uuid;

use super::{Key, of_keyring};
use crate::{Store, StoreError, Unit, database::stored::Id, keys::entities::key};

/// The latest time at which an encrypt lease under a replaced key of the keyring ends; after it no process starts an
/// encryption under such a key. None: no key was replaced.
///
/// A key's date is worked out and written down when it is first needed: one write for each key.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn last_ends(store: &Store, keyring: Uuid) -> Result<Option<DateTime<Utc>>, StoreError> {
    let (keys, now) = (of_keyring(store.db(), keyring).await?, store.now().await?);
    if !keys.iter().any(|key| is_unknown(key, now)) {
        return Ok(known_last_end(&keys));
    }
    let unit = store.begin().await?;
    find_out(&unit, keyring).await?;
    unit.commit().await?;
    let found_out = of_keyring(store.db(), keyring).await?;
    Ok(known_last_end(&found_out))
}

/// The same, as far as it was written down for these keys.
pub fn known_last_end(keys: &[Key]) -> Option<DateTime<Utc>> {
    let replaced = keys.iter().filter(|key| is_replaced(key));
    replaced.filter_map(|key| key.leases_end_at).max()
}

fn is_replaced(key: &Key) -> bool {
    key.deactivated_at.is_some() && key.state != KeyState::Active
}

/// A date further ahead than a lease under the key lasts was set before the database's clock was stepped back.
fn is_unknown(key: &Key, now: DateTime<Utc>) -> bool {
    let furthest = leases_end(now, longest(key));
    is_replaced(key) && key.leases_end_at.is_none_or(|end| end > furthest)
}

async fn find_out(unit: &Unit, keyring: Uuid) -> Result<(), StoreError> {
    let keys = of_keyring(unit.db(), keyring).await?;
    // Asked for after the keys were read: every later request for a lease sees them replaced too. The time of the
    // switch would be too early, as leases were given until it committed.
    let now = crate::database::time::in_milliseconds(crate::database_time(unit.db()).await?);
    for key in keys.iter().filter(|key| is_unknown(key, now)) {
        let end = leases_end(now, longest(key));
        let unless_found_out = match key.leases_end_at {
            Some(before) => key::Column::LeasesEndAt.eq(before),
            None => key::Column::LeasesEndAt.is_null(),
        };
        key::Entity::update_many()
            .col_expr(key::Column::LeasesEndAt, Expr::value(end))
            .filter(key::Column::KeyId.eq(Id(key.id)))
            .filter(unless_found_out)
            .exec(unit.db())
            .await?;
    }
    Ok(())
}

/// Nobody is given a lease under a key that signs.
fn longest(key: &Key) -> Option<Duration> {
    if key.algorithm == Algorithm::Ed25519 {
        return Some(Duration::ZERO);
    }
    key.longest_lease
}
