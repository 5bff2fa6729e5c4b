//! What a person has to say before anything is done for an incident, read off what stands: its key and its rotation.
//! It goes outside with notices, so it names no person and nothing that somebody typed.

use rekey_domain::{KeyState, Purpose};
use rekey_store::{
    ConnectionTrait, StoreError,
    incidents::Incident,
    keyrings::Keyring,
    keys::Key,
    rotations::{self, Rotation},
};

use super::left;

/// The command, in a sentence; none where it is being done, or a person has said that it is over.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of(
    db: &impl ConnectionTrait,
    incident: &Incident,
    (keyring, key): (&Keyring, &Key),
) -> Result<Option<String>, StoreError> {
    if !incident.state.is_open() {
        return Ok(None);
    }
    let latest = rotations::latest(db, keyring.id).await?;
    let name = key.name(keyring);
    if goes_on(key, latest.as_ref()) {
        return Ok(Some(format!(
            "{name} was reported and nothing was done about it: where it is true, rekey compromise {name} --reason TEXT"
        )));
    }
    let moves_it =
        |live: &Rotation| Some(live.id) == incident.rotation_id || left::would_move(key, live);
    let is_held = |live: &&Rotation| left::is_held(live) && moves_it(live);
    if let Some(held) = latest.as_ref().filter(is_held) {
        let (kind, id, resumes) = (held.kind.noun(), held.id, left::resumes(held));
        return Ok(Some(format!(
            "{kind} {id}, which moves what stands under {name}, is on hold: {resumes}"
        )));
    }
    if keyring.purpose == Purpose::Backup {
        return Ok(Some(format!(
            "whoever could read a destination has every key whose bundle is under {name}, and no rotation of {} helps those: rekey compromise each of them, or resolve this with what shows that nobody could",
            keyring.name
        )));
    }
    let is_left =
        left::may_be_left(key, latest.as_ref()) && left::seals_columns(db, keyring.id).await?;
    match is_left {
        true => Ok(Some(left::says(&name))),
        false => left::elsewhere(db, keyring, key).await,
    }
}

/// Whether the key is used, or will be, as though nobody had reported it: a machine did, and had just had another one
/// stopped.
fn goes_on(key: &Key, latest: Option<&Rotation>) -> bool {
    match key.state {
        KeyState::Pending => true,
        KeyState::Active => !latest.is_some_and(Rotation::lacks_its_key),
        _ => false,
    }
}
