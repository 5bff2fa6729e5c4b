//! What a person has to say before anything is done for an incident, read off what stands: its key and its rotation.
//! It goes outside with notices, so it names no person and nothing that somebody typed.

use rekey_domain::{Found, KeyState, Purpose, RotationState};
use rekey_store::{
    ConnectionTrait, StoreError, census,
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
    if is_left {
        return Ok(Some(left::says(&name)));
    }
    match left::elsewhere(db, keyring, key).await? {
        None => untold(db, keyring, key).await,
        elsewhere => Ok(elsewhere),
    }
}

/// Why nobody says that a key may be destroyed under which no value was found: what is written in another way, or cannot
/// be read, may stand under any key.
async fn untold(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    key: &Key,
) -> Result<Option<String>, StoreError> {
    let was_used = key.state == KeyState::Compromised && key.activated_at.is_some();
    if !was_used || key.emptied_at.is_some() {
        return Ok(None);
    }
    let counts_all =
        |one: &Rotation| one.state == RotationState::Completed && one.sweep_columns.is_none();
    let mut rotations = rotations::of_keyring(db, keyring.id).await?.into_iter();
    let Some(last) = rotations.find(counts_all) else {
        return Ok(None);
    };
    let counted = census::of_pass(db, last.id, last.pass).await?;
    let sum = |is_it: &dyn Fn(Found) -> bool| -> u64 {
        let of_it = counted.iter().filter(|count| is_it(count.found()));
        of_it.map(census::Counted::rows).sum()
    };
    let under = sum(&|found| found == Found::Key(key.id));
    let untold = sum(&|found| matches!(found, Found::NotCiphertext | Found::Unreadable));
    let (name, sweep) = (key.name(keyring), &keyring.name);
    Ok((under == 0 && untold > 0).then(|| {
        format!(
            "whether {name} may be destroyed is not known: {untold} value(s) of its keyring's columns are no ciphertext as those columns have it, or cannot be read, and may stand under it in another form, as in hex: rekey quarantine list; once they are encrypted, mended or emptied, rekey sweep {sweep}"
        )
    }))
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
