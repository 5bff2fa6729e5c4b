//! Compromised keys under which values may stand though no rotation moves them, as after an emergency was cancelled.

use rekey_domain::{KeyName, KeyState, RotationState};
use rekey_store::{
    ConnectionTrait, StoreError, columns, incidents,
    keyrings::{self, Keyring},
    keys::{self, Key},
    quarantine,
    rotations::{self, Rotation},
};
use uuid::Uuid;

/// Whether values may stand under the key and nothing moves them. What comes after it was closed is left on purpose, and
/// told as that.
pub fn may_be_left(key: &Key, latest: Option<&Rotation>) -> bool {
    let was_primary = key.state == KeyState::Compromised && key.activated_at.is_some();
    let is_done_with = key.emptied_at.is_some() || key.closed_at.is_some();
    was_primary && !is_done_with && !latest.is_some_and(moves_all)
}

/// A rotation that failed says so itself, and goes on when it is retried. One on hold moves nothing.
fn moves_all(latest: &Rotation) -> bool {
    let moves = latest.state.is_live() && !latest.paused;
    let goes_on = moves || latest.state == RotationState::Failed;
    goes_on && latest.sweep_columns.is_none()
}

/// Whether the rotation would move values that may stand under the key.
pub fn would_move(key: &Key, live: &Rotation) -> bool {
    may_be_left(key, None) && live.sweep_columns.is_none()
}

/// Whether a keyring protects any column. Under a key that seals none there never was a value.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn seals_columns(db: &impl ConnectionTrait, keyring: Uuid) -> Result<bool, StoreError> {
    let columns = columns::keyrings(db).await?;
    Ok(columns.iter().any(|(_, id)| *id == keyring))
}

/// The keys of a keyring that are left so.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_keyring(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    mut keys: Vec<Key>,
) -> Result<Vec<Key>, StoreError> {
    let latest = rotations::latest(db, keyring.id).await?;
    keys.retain(|key| may_be_left(key, latest.as_ref()));
    if !keys.is_empty() && !seals_columns(db, keyring.id).await? {
        keys.clear();
    }
    Ok(keys)
}

/// What is said of such a key, with the command that helps.
pub fn says(name: &KeyName) -> String {
    format!(
        "{name} is compromised, values may stand under it, and no rotation moves them: rekey compromise {name} --reason TEXT, or rekey sweep {}",
        name.keyring
    )
}

/// The command that helps with a key that is left so, by its name: where a rotation on hold would move the values, that is
/// let go on.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn helps(db: &impl ConnectionTrait, key: &str) -> Result<String, StoreError> {
    let report = format!("rekey compromise {key} --reason TEXT");
    let Ok(name) = key.parse::<KeyName>() else {
        return Ok(report);
    };
    let Some(keyring) = keyrings::find(db, &name.keyring).await? else {
        return Ok(report);
    };
    let latest = rotations::latest(db, keyring.id).await?;
    let would_move = |live: &&Rotation| live.sweep_columns.is_none() && is_held(live);
    Ok(latest.as_ref().filter(would_move).map_or(report, resumes))
}

/// Whether a rotation is on hold, and moves nothing until it is let go on.
pub fn is_held(live: &Rotation) -> bool {
    live.state.is_live() && live.paused
}

/// The command that lets a rotation on hold go on.
pub fn resumes(held: &Rotation) -> String {
    let accept = match held.unknown_keys_accepted {
        Some(false) => " --accept-unknown-keys",
        _ => "",
    };
    format!("rekey rotations resume {}{accept}", held.id)
}

/// The same of every key that no open incident says it of.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn problems(db: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
    let incidents = incidents::all(db).await?;
    let is_said = |key: &Key| {
        let mut of_key = incidents.iter().filter(|one| one.key_id == key.id);
        of_key.any(|one| one.state.is_open())
    };
    let mut problems = Vec::new();
    for keyring in keyrings::all(db).await? {
        let keys = keys::of_keyring(db, keyring.id).await?;
        let left = of_keyring(db, &keyring, keys.clone()).await?;
        let unsaid = left.iter().filter(|key| !is_said(key));
        problems.extend(unsaid.map(|key| says(&key.name(&keyring))));
        for key in &keys {
            problems.extend(elsewhere(db, &keyring, key).await?);
        }
    }
    Ok(problems)
}

/// Values under a compromised key that are in quarantine: no rotation moves them, whichever keyring's column they are in.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn elsewhere(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    key: &Key,
) -> Result<Option<String>, StoreError> {
    if key.state != KeyState::Compromised {
        return Ok(None);
    }
    let values = quarantine::count_under(db, key.id).await?;
    let name = key.name(keyring);
    Ok((values > 0).then(|| {
        format!("{values} value(s) under {name}, which is compromised, are in quarantine and are not moved: rekey quarantine list")
    }))
}
