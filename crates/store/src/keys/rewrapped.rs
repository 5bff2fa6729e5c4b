//! Keys that are wrapped anew, as where the master key was replaced.

use rekey_domain::KeyState;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{StoredKey, compromised::compromise, keyrings, one_changed, reported_masters};
use crate::{StoreError, Unit, database::stored::Id, keys::entities::key};

/// Replaces a key's wrapped material by the same key under `master_key`. The caller has seen that it
/// unwraps to the same key; its check value stays. A standby of a master key that was reported is stopped: under another
/// nobody would know it for one.
///
/// # Errors
/// [`StoreError::Stale`] where it was wrapped anew or erased meanwhile.
pub async fn rewrap(
    unit: &Unit,
    key: &StoredKey,
    wrapped: Vec<u8>,
    master_key: &str,
) -> Result<(), StoreError> {
    if key.state == KeyState::Pending
        && reported_masters::is_under_one(unit.db(), key.master_key.as_deref()).await?
    {
        let keyring = keyrings::lock(unit, key.keyring_id).await?;
        compromise(unit, &keyring, key, None).await?;
    }
    let row = key::ActiveModel {
        wrapped: Set(Some(wrapped)),
        master_key: Set(Some(master_key.to_owned())),
        ..Default::default()
    };
    let changed = key::Entity::update_many()
        .set(row)
        .filter(key::Column::KeyId.eq(Id(key.id)))
        .filter(key::Column::Wrapped.eq(key.wrapped.clone()))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id))
}
