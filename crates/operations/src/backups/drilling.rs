//! A drill: the key is brought back from a destination's bytes alone, and must be the key that the store has.

use rand::RngExt;
use rekey_backups::{
    BackedUpKey, BackupKey, Bundle, BundleError, BundleName, Fingerprint, RecoveryPublicKey,
};
use rekey_destinations::Destination;
use rekey_domain::{Algorithm, BackupProblem, DestinationName, KeyId, Purpose};
use rekey_envelope::{CheckValue, Ciphertext, DataKey, KeyMaterial, PublicKey, SigningKey};
use rekey_kms::{EncryptionContext, WrappedKey};
use rekey_store::{backups::bundles, columns::Protected};

use crate::{
    Services,
    backups::{
        sealing::{Trouble, Unwrapped, copy, details, of_kms, recovery_key},
        storing::{object_name, of_destination},
    },
    sources::opening::opened_by,
};

/// What the restored key encrypts, to be opened by the key of the store.
const PROBE: &[u8] = b"rekey drill";
/// Values of each protected column that the restored key opens.
const SAMPLED: u64 = 20;

/// Restores a key at a destination and compares it with the store's. Gives how many values it opened.
pub(crate) async fn drill(
    services: &Services,
    unwrapped: &Unwrapped,
    bundle: &str,
    at: (&DestinationName, &dyn Destination),
    columns: &[Protected],
) -> Result<u64, Trouble> {
    let restored = Drill { services, at }.restore(bundle).await?;
    compare(&restored, unwrapped)?;
    works(&restored, unwrapped)?;
    opens_values(services, &restored, unwrapped, columns).await
}

struct Drill<'a> {
    services: &'a Services,
    at: (&'a DestinationName, &'a dyn Destination),
}

impl Drill<'_> {
    /// The key in the bundle, by what the destination keeps and the master key.
    async fn restore(&self, name: &str) -> Result<BackedUpKey, Trouble> {
        let (bundle, bytes) = self.read(name).await?;
        let (id, material) = self.backup_key(&bundle).await?;
        let key = BackupKey {
            id,
            material: &material,
        };
        let recovery = match bundle.recovery_key() {
            Some(fingerprint) => Some(self.recovery(fingerprint).await?),
            None => None,
        };
        let restored = bundle.reseal_and_compare(key, recovery.as_ref());
        control(bundle.key_id(), &bytes, key, recovery.as_ref())?;
        restored.map_err(of_bundle)
    }

    async fn read(&self, name: &str) -> Result<(Bundle, Vec<u8>), Trouble> {
        let altered = Trouble::Problem(BackupProblem::Altered);
        let Ok(parsed) = name.parse::<BundleName>() else {
            return Err(altered);
        };
        let read = self.at.1.read(&object_name(name)).await;
        let bytes = read.map_err(|error| of_destination(&error))?;
        let bundle = Bundle::read(&parsed, &bytes).map_err(|_| altered)?;
        Ok((bundle, bytes))
    }

    /// The BACKUP key of a bundle: itself a bundle here, which the master key unwraps.
    async fn backup_key(&self, bundle: &Bundle) -> Result<(KeyId, KeyMaterial), Trouble> {
        let id = bundle.backup_key();
        if bundle.wrapped().is_some() {
            return Ok((id, self.unwrap(bundle).await?));
        }
        let none = || Trouble::Problem(BackupProblem::NoBackupKey);
        let own = bundles::of_key(self.services.store.db(), id).await?;
        let own = own.iter().find(|one| one.destination == *self.at.0);
        let own = own.ok_or_else(none)?;
        let (own, _) = match self.read(&own.name).await {
            Err(Trouble::Problem(problem)) if problem.is_a_verdict() => return Err(none()),
            read => read?,
        };
        let material = self.unwrap(&own).await?;
        let opened = own.open(BackupKey {
            id,
            material: &material,
        });
        match opened {
            Ok(opened) if opened.key_id == id && opened.details.purpose == Purpose::Backup => {
                Ok((id, material))
            }
            _ => Err(none()),
        }
    }

    /// A BACKUP key, from its own bundle.
    async fn unwrap(&self, own: &Bundle) -> Result<KeyMaterial, Trouble> {
        let Some((keyring, wrapped)) = own.wrapped() else {
            return Err(Trouble::Problem(BackupProblem::NoBackupKey));
        };
        let context = EncryptionContext {
            deployment: own.deployment(),
            keyring,
            key_id: own.key_id(),
            purpose: Purpose::Backup,
        };
        let wrapped = WrappedKey::from(wrapped.to_vec());
        let unwrapped = self.services.kms.decrypt(&wrapped, &context).await;
        unwrapped.map_err(|error| match of_kms(&error) {
            Trouble::Problem(BackupProblem::NotUnwrapped) => {
                Trouble::Problem(BackupProblem::NoBackupKey)
            }
            other => other,
        })
    }

    /// The public RECOVERY key of a bundle. One that this process was not told of proves nothing.
    async fn recovery(&self, wanted: Fingerprint) -> Result<RecoveryPublicKey, Trouble> {
        let known = recovery_key(self.services).await?;
        let known = known.filter(|key| key.fingerprint() == wanted);
        known.ok_or(Trouble::Problem(BackupProblem::NotAuthentic))
    }
}

/// One byte is flipped, and must be noticed: by the name, and where the name is right by the seals.
fn control(
    key_id: KeyId,
    bytes: &[u8],
    key: BackupKey<'_>,
    recovery: Option<&RecoveryPublicKey>,
) -> Result<(), Trouble> {
    let mut flipped = bytes.to_vec();
    let at = rand::rng().random_range(0..flipped.len());
    flipped[at] ^= 1 << rand::rng().random_range(0..8);
    let passes = |name: &BundleName| {
        let read = Bundle::read(name, &flipped);
        read.is_ok_and(|read| read.reseal_and_compare(key, recovery).is_ok())
    };
    let (old, new) = (
        BundleName::of(key_id, bytes),
        BundleName::of(key_id, &flipped),
    );
    match passes(&old) || passes(&new) {
        false => Ok(()),
        true => Err(Trouble::Problem(BackupProblem::NoControl)),
    }
}

fn of_bundle(error: BundleError) -> Trouble {
    tracing::warn!(%error, "a bundle does not come back");
    Trouble::Problem(BackupProblem::NotAuthentic)
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
