//! Censuses tell how many values stand under a key.

use rekey_domain::Found;
use rekey_store::{
    ConnectionTrait, StoreError, census, incidents::Exposure, keyrings::Keyring, keys::Key,
    rotations,
};

/// The rotations of a keyring that are looked through for a census.
const LOOKED_THROUGH: usize = 5;

/// How many values the keyring's latest census found under the key; none where the key was put to use after it, or its
/// rotation had not moved anything to it yet.
pub(super) async fn exposure(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    key: &Key,
) -> Result<Option<Exposure>, StoreError> {
    let rotations = rotations::of_keyring(db, keyring.id).await?;
    let of_all = rotations.iter().filter(|one| one.sweep_columns.is_none());
    for rotation in of_all.take(LOOKED_THROUGH) {
        for pass in [rotation.pass, census::BEFORE] {
            let counted = census::of_pass(db, rotation.id, pass).await?;
            let Some(counted_at) = counted.iter().map(|count| count.taken_at).max() else {
                continue;
            };
            let under = counted
                .iter()
                .filter(|count| count.found() == Found::Key(key.id));
            let values = under.map(census::Counted::rows).sum();
            let in_use_since = key.activated_at.unwrap_or(key.created_at);
            let is_target = rotation.target_key_id == Some(key.id);
            let is_of_key = in_use_since <= counted_at && !(is_target && pass == census::BEFORE);
            return Ok(is_of_key.then_some(Exposure { values, counted_at }));
        }
    }
    Ok(None)
}
