//! Encrypt leases under a key: the longest that was ever given, and when the last one ends.
//!
//! A lease is given by one row that holds the policy and the primary key, so whatever was in force
//! while a key was primary bounds it; writing that down takes no write of whoever is given one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, EncryptLease, KeyId, KeyState, leases_end};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use uuid::Uuid;

use super::{Key, of_keyring};
use crate::{Store, StoreError, Unit, database::stored::Id, keys::entities::key};

/// When the last encrypt lease under any key of the keyring that was replaced ends, at the latest:
/// later, no process begins an encryption under one. None: no key was replaced.
///
/// What is not known of a key yet is found out and written down: it costs a write once a key.
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
    let keys = of_keyring(store.db(), keyring).await?;
    Ok(known_last_end(&keys))
}

/// The same of a keyring's keys, as far as it was found out.
pub fn known_last_end(keys: &[Key]) -> Option<DateTime<Utc>> {
    let replaced = keys.iter().filter(|key| is_replaced(key));
    replaced.filter_map(|key| key.leases_end_at).max()
}

fn is_replaced(key: &Key) -> bool {
    key.deactivated_at.is_some() && key.state != KeyState::Active
}

/// A date further ahead than any lease lasts was set before the database's clock was stepped back.
fn is_unknown(key: &Key, now: DateTime<Utc>) -> bool {
    let furthest = now + EncryptLease::LONGEST;
    is_replaced(key) && key.leases_end_at.is_none_or(|end| end > furthest)
}

async fn find_out(unit: &Unit, keyring: Uuid) -> Result<(), StoreError> {
    let keys = of_keyring(unit.db(), keyring).await?;
    // Asked for after the keys were read: whoever asks for a lease from now on reads the same of them.
    // When the switch began says less, as leases were given until it committed.
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

/// Notes that leases of this length are given under the key from now on. Of a key that nothing is known
/// of, nothing is known still.
pub(crate) async fn raise_longest(
    unit: &Unit,
    id: KeyId,
    lease: Duration,
) -> Result<(), StoreError> {
    use key::Column::LongestLease;
    key::Entity::update_many()
        .col_expr(LongestLease, Expr::value(millis(lease)))
        .filter(key::Column::KeyId.eq(Id(id)))
        .filter(LongestLease.lt(millis(lease)))
        .exec(unit.db())
        .await?;
    Ok(())
}

pub(crate) fn millis(lease: Duration) -> i64 {
    i64::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
