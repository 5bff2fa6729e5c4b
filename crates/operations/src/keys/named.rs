//! A key as people name it: `phi/3`, or its id.

use rekey_domain::KeyRef;
use rekey_store::{
    ConnectionTrait, StoreError,
    keyrings::{self, Keyring},
    keys::{self, Key},
};

/// The key of this name, and its keyring.
///
/// # Errors
/// [`StoreError::Unknown`] lists the keys of its keyring.
pub(crate) async fn named(
    db: &impl ConnectionTrait,
    key: &KeyRef,
) -> Result<(Key, Keyring), StoreError> {
    let unknown = |known| StoreError::Unknown {
        what: format!("key {key}"),
        known,
    };
    match key {
        KeyRef::Id(id) => {
            let found = keys::find(db, *id).await?;
            let found = found.ok_or_else(|| unknown(Vec::new()))?;
            let keyring = keyrings::by_id(db, found.keyring_id).await?;
            Ok((found, keyring))
        }
        KeyRef::Name(name) => {
            let keyring = keyrings::by_name(db, &name.keyring).await?;
            let keys = keys::of_keyring(db, keyring.id).await?;
            let known = keys.iter().map(|one| one.name(&keyring).to_string());
            let known = known.collect();
            let mut keys = keys.into_iter();
            let found = keys.find(|one| one.version == name.version);
            Ok((found.ok_or_else(|| unknown(known))?, keyring))
        }
    }
}
