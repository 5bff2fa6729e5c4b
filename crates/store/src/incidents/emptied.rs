//! A compromised key under which nothing was left, and something is again.

use rekey_domain::AlertKind;

use crate::{
    StoreError, Unit,
    incidents::alerts,
    keys::{self, Key, keyrings::Keyring},
};

/// Hands the key out again, as after a restore, and takes back that it may be destroyed; nothing for one that was not
/// empty.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn come_back(unit: &Unit, keyring: &Keyring, key: &Key) -> Result<(), StoreError> {
    if key.emptied_at.is_none() {
        return Ok(());
    }
    keys::no_longer_empty(unit, key).await?;
    let name = key.name(keyring).to_string();
    alerts::clear(unit, AlertKind::KeyMayBeDestroyed, &name).await
}
