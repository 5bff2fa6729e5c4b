//! A key, or what is known of the deployment, is brought back from what a destination keeps and the master key, and from nothing else.

use std::{collections::HashMap, sync::Arc};

use rand::RngExt;
use rekey_backups::{
    BackedUpKey, BackupKey, Bundle, BundleError, BundleName, DeploymentBundle, Fingerprint,
    RecoveryPublicKey,
};
use rekey_destinations::Destination;
use rekey_domain::{BackupProblem, DestinationName, KeyId, Purpose};
use rekey_envelope::{KeyMaterial, Zeroizing};
use rekey_kms::{EncryptionContext, WrappedKey};
use rekey_store::backups::bundles;
use uuid::Uuid;

use crate::{
    Services,
    backups::{
        sealing::{Trouble, of_kms, recovery_key},
        storing::{object_name, of_destination},
    },
    recovery::listing::listed,
};

/// BACKUP keys that came back in this run, each from its own bundle at a destination: others there are opened with them.
pub(crate) type BackupKeys = HashMap<(DestinationName, KeyId), Arc<KeyMaterial>>;

/// Restores keys at a destination.
pub(crate) struct Restorer<'a> {
    pub(crate) services: &'a Services,
    pub(crate) at: (&'a DestinationName, &'a dyn Destination),
    pub(crate) backup_keys: &'a mut BackupKeys,
}

impl Restorer<'_> {
    /// The key in the bundle. On the way the same is tried with one bit flipped, which must fail.
    pub(crate) async fn restore(&mut self, name: &str) -> Result<BackedUpKey, Trouble> {
        let (own, bytes) = self.bundle(name).await?;
        let restored = self.open(&own, &bytes).await;
        let flipped = flipped(bytes);
        let fitting = BundleName::of(own.key_id(), &flipped);
        for claimed in [own, fitting] {
            refused(self.open(&claimed, &flipped).await)?;
        }
        restored
    }

    /// What the deployment's bundle holds, likewise.
    pub(crate) async fn restore_deployment(
        &mut self,
        deployment: Uuid,
        name: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let bytes = self.bytes(name).await?;
        let restored = self.open_deployment(name, &bytes).await;
        let flipped = flipped(bytes);
        let fitting = DeploymentBundle::name_of(deployment, &flipped);
        for claimed in [name, &fitting] {
            refused(self.open_deployment(claimed, &flipped).await)?;
        }
        restored
    }

    async fn bundle(&self, name: &str) -> Result<(BundleName, Vec<u8>), Trouble> {
        let parsed = name.parse::<BundleName>();
        let parsed = parsed.map_err(|_| Trouble::Problem(BackupProblem::Missing))?;
        Ok((parsed, self.bytes(name).await?))
    }

    async fn bytes(&self, name: &str) -> Result<Vec<u8>, Trouble> {
        let read = self.at.1.read(&object_name(name)?).await;
        read.map_err(|error| of_destination(&error))
    }

    /// Opens the BACKUP seal, and makes the bundle again.
    async fn open(&mut self, name: &BundleName, bytes: &[u8]) -> Result<BackedUpKey, Trouble> {
        let bundle = Bundle::read(name, bytes);
        let bundle = bundle.map_err(|_| Trouble::Problem(BackupProblem::Altered))?;
        let material = self.backup_key(&bundle).await?;
        let key = BackupKey {
            id: bundle.backup_key(),
            material: &material,
        };
        let recovery = self.recovery(bundle.recovery_key()).await?;
        let restored = bundle.reseal_and_compare(key, recovery.as_ref());
        restored.map_err(of_bundle)
    }

    async fn open_deployment(
        &mut self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let bundle = DeploymentBundle::read(name, bytes);
        let bundle = bundle.map_err(|_| Trouble::Problem(BackupProblem::Altered))?;
        let material = self.backup_key_by_id(bundle.backup_key()).await?;
        let key = BackupKey {
            id: bundle.backup_key(),
            material: &material,
        };
        let recovery = self.recovery(bundle.recovery_key()).await?;
        let restored = bundle.reseal_and_compare(key, recovery.as_ref());
        restored.map_err(of_bundle)
    }

    /// The BACKUP key of a bundle: itself a bundle here, which the master key unwraps.
    async fn backup_key(&mut self, bundle: &Bundle) -> Result<Arc<KeyMaterial>, Trouble> {
        if bundle.wrapped().is_some() {
            return Ok(Arc::new(self.unwrap(bundle).await?));
        }
        self.backup_key_by_id(bundle.backup_key()).await
    }

    async fn backup_key_by_id(&mut self, id: KeyId) -> Result<Arc<KeyMaterial>, Trouble> {
        let known = (self.at.0.clone(), id);
        if let Some(material) = self.backup_keys.get(&known) {
            return Ok(material.clone());
        }
        let material = Arc::new(self.in_its_own_bundle(id).await?);
        self.backup_keys.insert(known, material.clone());
        Ok(material)
    }

    async fn in_its_own_bundle(&self, id: KeyId) -> Result<KeyMaterial, Trouble> {
        let none = || Trouble::Problem(BackupProblem::NoBackupKey);
        let stored = bundles::of_key(self.services.store.db(), id).await?;
        let stored = stored.into_iter().find(|one| one.destination == *self.at.0);
        // A store that was rolled back may not know it.
        let name = match stored {
            Some(stored) => Some(stored.name),
            None => self.listed_last(id).await?,
        };
        let (name, bytes) = match self.bundle(&name.ok_or_else(none)?).await {
            Err(Trouble::Problem(problem)) if problem.is_a_verdict() => return Err(none()),
            read => read?,
        };
        let own = Bundle::read(&name, &bytes).map_err(|_| none())?;
        let material = self.unwrap(&own).await?;
        let opened = own.open(BackupKey {
            id,
            material: &material,
        });
        match opened {
            Ok(opened) if opened.key_id == id && opened.details.purpose == Purpose::Backup => {
                Ok(material)
            }
            _ => Err(none()),
        }
    }

    async fn listed_last(&self, id: KeyId) -> Result<Option<String>, Trouble> {
        let listed = listed(self.at.1, &format!("bundles/{id}")).await;
        let listed = listed.map_err(|error| of_destination(&error))?;
        Ok(listed.last().map(ToString::to_string))
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

    /// The public RECOVERY key of a bundle, if it is the one that this process was told of.
    async fn recovery(
        &self,
        wanted: Option<Fingerprint>,
    ) -> Result<Option<RecoveryPublicKey>, Trouble> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let known = recovery_key(self.services).await?;
        let known = known.filter(|key| key.fingerprint() == wanted);
        let other = Trouble::Problem(BackupProblem::OtherRecoveryKey);
        known.map(Some).ok_or(other)
    }
}

/// One bit of it is another.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.is_empty() {
        return vec![b' '];
    }
    let at = rand::rng().random_range(0..bytes.len());
    bytes[at] ^= 1 << rand::rng().random_range(0..8);
    bytes
}

/// What was flipped must be noticed: by the name, and where the name is right by the seals and the KMS.
fn refused<T>(opened: Result<T, Trouble>) -> Result<(), Trouble> {
    match opened {
        Ok(_) => Err(Trouble::Problem(BackupProblem::NoControl)),
        // A fingerprint with a flipped bit is that of no key.
        Err(Trouble::Problem(BackupProblem::OtherRecoveryKey)) => Ok(()),
        Err(Trouble::Problem(problem)) if problem.is_a_verdict() => Ok(()),
        Err(nothing_learned) => Err(nothing_learned),
    }
}

fn of_bundle(error: BundleError) -> Trouble {
    tracing::debug!(%error, "a bundle does not come back");
    Trouble::Problem(BackupProblem::NotAuthentic)
}
