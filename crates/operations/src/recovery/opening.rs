//! Bundles are opened with the master key, or with shares of the RECOVERY key where that is lost.

use std::collections::HashMap;

use rekey_backups::{BackedUpKey, BackupKey, Bundle, DeploymentBundle, RecoveryKey};
use rekey_domain::{KeyId, Purpose};
use rekey_envelope::{KeyMaterial, Zeroizing};
use rekey_kms::{EncryptionContext, WrappedKey};

use crate::{OperationError, Services, backups::sealing::copy};

/// What opens bundles.
pub(crate) enum Opener<'a> {
    /// The master key opens BACKUP keys, and those the others.
    MasterKey,
    /// The RECOVERY key opens each by itself.
    Shares(&'a RecoveryKey),
}

/// BACKUP keys that were opened by now.
#[derive(Default)]
pub(crate) struct Opens(HashMap<KeyId, KeyMaterial>);

impl Opens {
    /// The key in a bundle, or why it does not open.
    ///
    /// # Errors
    /// [`OperationError::Kms`] where the KMS is out of reach: then nothing is known of the bundle.
    pub(crate) async fn key(
        &mut self,
        services: &Services,
        opener: &Opener<'_>,
        bundle: &Bundle,
    ) -> Result<Result<BackedUpKey, String>, OperationError> {
        if let Opener::Shares(recovery) = opener {
            let opened = bundle.recover(recovery);
            if let Ok(key) = &opened
                && key.details.purpose == Purpose::Backup
            {
                self.0.insert(key.key_id, copy(&key.material));
            }
            return Ok(opened.map_err(|error| error.to_string()));
        }
        if let Some((keyring, wrapped)) = bundle.wrapped()
            && !self.0.contains_key(&bundle.key_id())
        {
            let context = EncryptionContext {
                deployment: bundle.deployment(),
                keyring,
                key_id: bundle.key_id(),
                purpose: Purpose::Backup,
            };
            let wrapped = WrappedKey::from(wrapped.to_vec());
            match services.kms.decrypt(&wrapped, &context).await {
                Ok(material) => _ = self.0.insert(bundle.key_id(), material),
                Err(error) if error.is_retryable() => return Err(error.into()),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let Some(material) = self.0.get(&bundle.backup_key()) else {
            return Ok(Err(no_backup_key(bundle.backup_key())));
        };
        let id = bundle.backup_key();
        let opened = bundle.open(BackupKey { id, material });
        Ok(opened.map_err(|error| error.to_string()))
    }

    /// What a bundle of the deployment holds, or why it does not open.
    pub(crate) fn deployment(
        &self,
        opener: &Opener<'_>,
        bundle: &DeploymentBundle,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        if let Opener::Shares(recovery) = opener {
            return bundle.recover(recovery).map_err(|error| error.to_string());
        }
        let id = bundle.backup_key();
        let material = self.0.get(&id);
        let material = material.ok_or_else(|| no_backup_key(id))?;
        let opened = bundle.open(BackupKey { id, material });
        opened.map_err(|error| error.to_string())
    }
}

fn no_backup_key(id: KeyId) -> String {
    format!("its BACKUP key {id} does not come back")
}
