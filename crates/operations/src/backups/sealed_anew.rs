//! Which keys are still sealed under an earlier BACKUP key: a rotation of BACKUP is not over before none is.

use rekey_domain::{KeyId, KeyName, Purpose};
use rekey_store::{
    ConnectionTrait, StoreError,
    backups::{
        bundles::{self, Backup},
        destinations,
        drills::{self, Drill},
    },
    keyrings, keys,
};

use super::due::{is_backed_up, newest};

/// Keys without a proved bundle under this BACKUP key, wherever that is. None where bundles are kept nowhere.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn not_sealed_under(
    db: &impl ConnectionTrait,
    backup_key: KeyId,
) -> Result<Vec<KeyName>, StoreError> {
    let places = destinations::all(db).await?;
    let bundles = newest(bundles::all(db).await?, |one: &Backup| {
        (one.key, one.destination.clone())
    });
    let drills = newest(drills::all(db).await?, |one: &Drill| {
        (one.key, one.destination.clone())
    });
    let mut left = Vec::new();
    if places.is_empty() {
        return Ok(left);
    }
    for keyring in keyrings::all(db).await? {
        // A BACKUP key is sealed under itself.
        if keyring.purpose == Purpose::Backup {
            continue;
        }
        let of_keyring = keys::of_keyring(db, keyring.id).await?.into_iter();
        for key in of_keyring.filter(|key| is_backed_up(key.state)) {
            let is_proved = places.iter().any(|place| {
                let at = (key.id, place.name.clone());
                let (bundle, drill) = (bundles.get(&at), drills.get(&at));
                bundle.zip(drill).is_some_and(|(bundle, drill)| {
                    bundle.backup_key == backup_key
                        && drill.problem.is_none()
                        && drill.bundle.as_ref() == Some(&bundle.name)
                })
            });
            if !is_proved {
                left.push(key.name(&keyring));
            }
        }
    }
    Ok(left)
}
