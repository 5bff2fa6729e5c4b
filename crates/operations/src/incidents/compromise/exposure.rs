//! Censuses tell how many values stand under a key.

use chrono::{DateTime, Utc};
use rekey_domain::Found;
use rekey_store::{
    ConnectionTrait, StoreError,
    census::{self, Counted},
    incidents::Exposure,
    keyrings::Keyring,
    keys::Key,
    rotations::{self, Rotation},
};

/// The rotations of all columns of a keyring that are looked through for a census.
const LOOKED_THROUGH: usize = 5;

/// What a rotation last counted, of the columns that no newer one did.
struct Census {
    counts: Vec<Counted>,
    counted_at: DateTime<Utc>,
    /// Whether it tells what stands under the key.
    tells: bool,
}

/// How many values the newest census of each of the keyring's columns found under the key; none where the key was put
/// to use after one of them, or its rotation had not moved anything to it yet.
pub(super) async fn exposure(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    key: &Key,
) -> Result<Option<Exposure>, StoreError> {
    let mut newest: Vec<Census> = Vec::new();
    let mut looked_through = 0;
    for rotation in rotations::of_keyring(db, keyring.id).await? {
        let is_of_all = rotation.sweep_columns.is_none();
        let census = latest_census(db, &rotation, key).await?;
        let is_base = is_of_all && census.is_some();
        newest.extend(census.and_then(|census| of_other_columns(census, &newest)));
        if is_base {
            return Ok(summed(&newest, key));
        }
        looked_through += usize::from(is_of_all);
        if looked_through == LOOKED_THROUGH {
            break;
        }
    }
    // What stands in some of the columns is not what stands under the key.
    Ok(None)
}

async fn latest_census(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    key: &Key,
) -> Result<Option<Census>, StoreError> {
    let is_target = rotation.target_key_id == Some(key.id);
    let in_use_since = key.activated_at.unwrap_or(key.created_at);
    for pass in [rotation.pass, census::BEFORE] {
        let counts = census::of_pass(db, rotation.id, pass).await?;
        if let Some(counted_at) = counts.iter().map(|count| count.taken_at).max() {
            return Ok(Some(Census {
                counts,
                counted_at,
                tells: in_use_since <= counted_at && !(is_target && pass == census::BEFORE),
            }));
        }
    }
    Ok(None)
}

fn of_other_columns(mut census: Census, newer: &[Census]) -> Option<Census> {
    census.counts.retain(|count| {
        let mut counted = newer.iter().flat_map(|one| &one.counts);
        counted.all(|known| known.column_id != count.column_id)
    });
    (!census.counts.is_empty()).then_some(census)
}

fn summed(newest: &[Census], key: &Key) -> Option<Exposure> {
    if newest.iter().any(|census| !census.tells) {
        return None;
    }
    let first = newest.iter().map(|census| census.counted_at).min()?;
    let last = newest.iter().map(|census| census.counted_at).max()?;
    let all = newest.iter().flat_map(|census| &census.counts);
    let under = all.filter(|count| count.found() == Found::Key(key.id));
    Some(Exposure {
        values: under.map(Counted::rows).sum(),
        counted_at: last,
        counted_from: (first < last).then_some(first),
    })
}
