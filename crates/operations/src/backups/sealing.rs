//! A key of the store as a bundle: unwrapped by the KMS, sealed under the BACKUP key and to the RECOVERY key.

use rekey_backups::{BackedUpKey, BackupKey, Bundle, KeyDetails, RecoveryPublicKey, Under};
use rekey_domain::{BackupProblem, KeyId, KeyState, Purpose};
use rekey_envelope::{CheckValue, KeyMaterial};
use rekey_kms::{KmsError, WrappedKey};
use rekey_store::{
    backups::recovery_keys,
    keyrings::{self, Keyring},
    keys::{self, StoredKey},
};
use uuid::Uuid;

use crate::{OperationError, Services, keys::making::encryption_context};

/// Why a backup was not made or not proved: a problem of this backup, or something of ours that failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// What is noted in the drill's row.
    Problem(BackupProblem),
    /// The store or the like; nothing is noted.
    Failed(OperationError),
}

impl Trouble {
    /// As an error, where it is not noted.
    pub(crate) fn into_error(self) -> OperationError {
        match self {
            Self::Failed(error) => error,
            Self::Problem(problem) => OperationError::Refused(problem.says().to_owned()),
        }
    }
}

impl<E: Into<OperationError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What bundles are sealed for today.
pub(crate) struct SealFor {
    /// The deployment.
    pub(crate) deployment: Uuid,
    /// The primary BACKUP key; none: there is no such keyring, or it has no key yet.
    pub(crate) backup: Option<KeyId>,
    /// The RECOVERY key that this process was told of and that is in the store.
    pub(crate) recovery: Option<RecoveryPublicKey>,
}

/// A key as the KMS unwraps it.
pub(crate) struct Unwrapped {
    pub(crate) keyring: Keyring,
    pub(crate) key: StoredKey,
    pub(crate) material: KeyMaterial,
}

impl SealFor {
    /// What the store and this process's configuration say now.
    pub(crate) async fn today(services: &Services) -> Result<Self, OperationError> {
        let db = services.store.db();
        let deployment = keyrings::deployment(db).await?;
        let recovery = recovery_key(services).await?;
        let all = keyrings::all(db).await?;
        let keyring = all.into_iter().find(|one| one.purpose == Purpose::Backup);
        let backup = match keyring {
            Some(keyring) => {
                let keys = keys::of_keyring(db, keyring.id).await?.into_iter();
                let mut primary = keys.filter(|key| key.state == KeyState::Active);
                primary.next().map(|key| key.id)
            }
            None => None,
        };
        Ok(Self {
            deployment,
            backup,
            recovery,
        })
    }

    /// The bundle of a key, under the BACKUP key that it is for today; its own is under itself.
    pub(crate) fn bundle(
        &self,
        unwrapped: &Unwrapped,
        backup: Option<&Unwrapped>,
    ) -> Result<Bundle, Trouble> {
        let Unwrapped {
            keyring,
            key,
            material,
        } = unwrapped;
        let under = match (keyring.purpose, backup) {
            (Purpose::Backup, _) => Under::MasterKey {
                wrapped: key.wrapped.as_deref().unwrap_or_default(),
            },
            (_, Some(backup)) => Under::BackupKey(BackupKey {
                id: backup.key.id,
                material: &backup.material,
            }),
            (_, None) => return Err(Trouble::Problem(BackupProblem::NoBackupKey)),
        };
        let backed_up = BackedUpKey {
            deployment: self.deployment,
            key_id: key.id,
            details: details(keyring, key),
            material: copy(material),
        };
        let sealed = Bundle::seal(&backed_up, under, self.recovery.as_ref());
        sealed.map_err(|error| {
            tracing::error!(%error, "a bundle was not sealed");
            Trouble::Problem(BackupProblem::NotSealed)
        })
    }

    /// Which BACKUP key a bundle of such a keyring is under today.
    pub(crate) fn backup_key_of(&self, purpose: Purpose, key: KeyId) -> Option<KeyId> {
        match purpose {
            Purpose::Backup => Some(key),
            _ => self.backup,
        }
    }
}

/// What a bundle says of its key.
pub(crate) fn details(keyring: &Keyring, key: &StoredKey) -> KeyDetails {
    KeyDetails {
        keyring: keyring.id,
        keyring_name: keyring.name.clone(),
        version: key.version,
        purpose: keyring.purpose,
        algorithm: key.algorithm,
        created_at: key.created_at,
        activated_at: key.activated_at,
        deactivated_at: key.deactivated_at,
        expires_at: key.expires_at,
    }
}

/// A key of the store, unwrapped by the KMS and compared with its check value.
pub(crate) async fn unwrap(
    services: &Services,
    deployment: Uuid,
    keyring: Keyring,
    key: StoredKey,
) -> Result<Unwrapped, Trouble> {
    let not = Trouble::Problem(BackupProblem::NotUnwrapped);
    let Some(wrapped) = key.wrapped.clone().map(WrappedKey::from) else {
        return Err(not);
    };
    let context = encryption_context(deployment, &keyring, key.id);
    let unwrapped = services.kms.decrypt(&wrapped, &context).await;
    let material = unwrapped.map_err(|error| of_kms(&error))?;
    let check_value = CheckValue::try_from(key.check_value.as_slice());
    match check_value.is_ok_and(|value| value.matches(&material)) {
        true => Ok(Unwrapped {
            keyring,
            key,
            material,
        }),
        false => Err(not),
    }
}

/// A KMS that is away says nothing of the key.
pub(crate) fn of_kms(error: &KmsError) -> Trouble {
    Trouble::Problem(match error.is_retryable() {
        true => BackupProblem::OutOfReach,
        false => BackupProblem::NotUnwrapped,
    })
}

/// The newest RECOVERY key of the store that this process was told of. Who can change the store alone cannot have
/// bundles sealed to a key of their own.
pub(crate) async fn recovery_key(
    services: &Services,
) -> Result<Option<RecoveryPublicKey>, OperationError> {
    let pins = services.backups.pins();
    let stored = recovery_keys::all(services.store.db()).await?;
    let keys = stored
        .iter()
        .filter(|key| key.ended_at.is_none())
        .filter_map(|key| RecoveryPublicKey::try_from(key.public_key.as_slice()).ok());
    Ok(keys
        .into_iter()
        .find(|key| pins.contains(&key.fingerprint())))
}

/// The type has no copy, so that each one is written down.
pub(crate) fn copy(material: &KeyMaterial) -> KeyMaterial {
    KeyMaterial::from_slice(material.expose_key_bytes()).expect("it has the length of a key")
}
