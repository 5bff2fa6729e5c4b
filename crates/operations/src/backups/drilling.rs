//! A drill: the key is brought back from a destination's bytes alone, and must be the key that the store has.

use rekey_backups::BackedUpKey;
use rekey_domain::{Algorithm, BackupProblem, KeyId};
use rekey_envelope::{CheckValue, Ciphertext, DataKey, KeyMaterial, PublicKey, SigningKey};
use rekey_store::columns::Protected;

use crate::{
    Services,
    backups::{
        restoring::Restorer,
        sealing::{Trouble, Unwrapped, copy, details},
    },
    sources::opening::opened_by,
};

/// What the restored key encrypts, to be opened by the key of the store.
const PROBE: &[u8] = b"rekey drill";
/// Values of each protected column that the restored key opens.
const SAMPLED: u64 = 20;

/// Restores a key at a destination and compares it with the store's. Gives how many values it opened.
pub(crate) async fn drill(
    restorer: &mut Restorer<'_>,
    unwrapped: &Unwrapped,
    bundle: &str,
    columns: &[Protected],
) -> Result<u64, Trouble> {
    let restored = restorer.restore(bundle).await?;
    compare(&restored, unwrapped)?;
    works(&restored, unwrapped)?;
    opens_values(restorer.services, &restored, unwrapped, columns).await
}

/// Whether it is the key of the store, and said to be. Times may have changed since it was sealed.
fn compare(restored: &BackedUpKey, unwrapped: &Unwrapped) -> Result<(), Trouble> {
    let (found, expected) = (
        &restored.details,
        details(&unwrapped.keyring, &unwrapped.key),
    );
    let same_key = restored.key_id == unwrapped.key.id
        && CheckValue::try_from(unwrapped.key.check_value.as_slice())
            .is_ok_and(|value| value.matches(&restored.material));
    let same_details = (found.keyring, found.version, found.purpose, found.algorithm)
        == (
            expected.keyring,
            expected.version,
            expected.purpose,
            expected.algorithm,
        );
    match same_key && same_details {
        true => Ok(()),
        false => Err(Trouble::Problem(BackupProblem::OtherKey)),
    }
}

/// What one of the two makes, the other understands.
fn works(restored: &BackedUpKey, unwrapped: &Unwrapped) -> Result<(), Trouble> {
    let worked = match unwrapped.key.algorithm {
        Algorithm::Ed25519 => signs(&restored.material, unwrapped.key.public_key.as_deref()),
        algorithm => opens(
            &restored.material,
            &unwrapped.material,
            unwrapped.key.id,
            algorithm,
        ),
    };
    match worked {
        Some(()) => Ok(()),
        None => Err(Trouble::Problem(BackupProblem::DoesNotOpen)),
    }
}

fn opens(
    restored: &KeyMaterial,
    stored: &KeyMaterial,
    id: KeyId,
    algorithm: Algorithm,
) -> Option<()> {
    let stored = DataKey::new(id, algorithm, stored).ok()?;
    let restored = DataKey::new(id, algorithm, restored).ok()?;
    let sealed = stored.encrypt(PROBE, PROBE).ok()?;
    let opened = restored
        .decrypt(&Ciphertext::parse(&sealed).ok()?, PROBE)
        .ok()?;
    (*opened == *PROBE).then_some(())
}

fn signs(restored: &KeyMaterial, public_key: Option<&[u8]>) -> Option<()> {
    let signature = SigningKey::new(restored).ok()?.sign(PROBE);
    let public_key = PublicKey::try_from(public_key?).ok()?;
    public_key.verify(PROBE, &signature).ok()
}

/// Values of the application, where there are any under the key.
async fn opens_values(
    services: &Services,
    restored: &BackedUpKey,
    unwrapped: &Unwrapped,
    columns: &[Protected],
) -> Result<u64, Trouble> {
    if unwrapped.key.algorithm == Algorithm::Ed25519 {
        return Ok(0);
    }
    let key = DataKey::new(
        restored.key_id,
        unwrapped.key.algorithm,
        &copy(&restored.material),
    )?;
    let key = std::sync::Arc::new(key);
    let mut opened = 0;
    for column in columns
        .iter()
        .filter(|column| column.keyring_id == unwrapped.keyring.id)
    {
        // A source that is away takes nothing from the proof: the key itself was compared.
        let found = match opened_by(services, column, &key, SAMPLED).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, column = %column.spec.name, "a drill opened no values");
                continue;
            }
        };
        opened += found;
    }
    Ok(opened)
}
