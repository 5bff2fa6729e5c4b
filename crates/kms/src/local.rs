//! The local KMS: master keys in a file that only its owner can read.

mod disk;
mod key_file;
mod passphrase;
mod wrapping;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rekey_envelope::KeyMaterial;

use crate::{
    EncryptionContext, GeneratedKey, KeyFileProblem, Kms, KmsError, MasterKeyInfo, MasterKeyState,
    RewrappedKey, WrappedKey,
};
use disk::{PROVIDER, on_file};
use key_file::{KeyFile, MasterKey, Stored};
pub use passphrase::Passphrase;
use passphrase::{Derivation, Unlock};

/// Master keys in a file, for small deployments and first runs.
///
/// The file is read for each operation: a change of state applies at once, in every process, and no
/// master key stays in memory. Callers cache data keys, so this is rare. Where a passphrase seals the
/// file, it and the key it stands for do stay.
#[derive(Debug, Clone)]
pub struct LocalKms {
    path: PathBuf,
    unlock: Option<Arc<Unlock>>,
}

impl LocalKms {
    /// Opens the master key file at `path`, making it with a first master key if there is none.
    ///
    /// An existing file is never overwritten, and of several processes that call this at once one
    /// makes the file and all use it.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] if it cannot be made or used.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self, KmsError> {
        Self::create_with(path, None).await
    }

    /// The same, with the passphrase that seals it.
    ///
    /// # Errors
    /// As [`create`](Self::create), and as [`open_with`](Self::open_with).
    pub async fn create_with(
        path: impl Into<PathBuf>,
        passphrase: Option<Passphrase>,
    ) -> Result<Self, KmsError> {
        let kms = Self::at(path.into(), passphrase);
        let unlock = kms.unlock.clone();
        on_file(kms.path.clone(), move |at| {
            if at.try_exists().map_err(disk::problem)? {
                return Ok(());
            }
            let mut file = KeyFile::generate();
            file.protection = unlock.as_ref().map(|_| Derivation::new());
            disk::create(at, &stored(file, unlock.as_deref())?.to_json())
        })
        .await?;
        kms.read().await?;
        Ok(kms)
    }

    /// Opens the master key file at `path`.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] if it is missing, open to others, or not a master key file.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, KmsError> {
        Self::open_with(path, None).await
    }

    /// The same, with the passphrase that seals it.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`KeyFileProblem::PassphraseNeeded`],
    /// [`KeyFileProblem::WrongPassphrase`], and [`KeyFileProblem::NotProtected`] for a file that lies
    /// open although there is a passphrase.
    pub async fn open_with(
        path: impl Into<PathBuf>,
        passphrase: Option<Passphrase>,
    ) -> Result<Self, KmsError> {
        let kms = Self::at(path.into(), passphrase);
        kms.read().await?;
        Ok(kms)
    }

    /// Seals the file with another passphrase, or its first, from now on; with none it lies open. Everyone who has the
    /// file open needs the new passphrase from the next operation on.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] if the file cannot be used or written; it is then as it was.
    pub async fn change_passphrase(&mut self, new: Option<Passphrase>) -> Result<(), KmsError> {
        let new = new.map(|new| Arc::new(Unlock::new(new)));
        let (old, sealing) = (self.unlock.clone(), new.clone());
        on_file(self.path.clone(), move |path| {
            let _one_at_a_time = disk::lock(path)?;
            let mut file = open(path, old.as_deref())?;
            file.protection = sealing.as_ref().map(|_| Derivation::new());
            disk::replace(path, &stored(file, sealing.as_deref())?.to_json())
        })
        .await?;
        self.unlock = new;
        Ok(())
    }

    fn at(path: PathBuf, passphrase: Option<Passphrase>) -> Self {
        let unlock = passphrase.map(|passphrase| Arc::new(Unlock::new(passphrase)));
        Self { path, unlock }
    }

    /// Puts the current master key of the file at `path` into `state`.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] if the file cannot be used or written; it is then as it was.
    pub async fn set_state(
        path: impl Into<PathBuf>,
        state: MasterKeyState,
    ) -> Result<(), KmsError> {
        on_file(path.into(), move |path| {
            let _one_at_a_time = disk::lock(path)?;
            let mut file = read(path)?;
            file.current_mut().state = state;
            disk::replace(path, &file.to_json())
        })
        .await
    }

    async fn read(&self) -> Result<KeyFile<KeyMaterial>, KmsError> {
        let unlock = self.unlock.clone();
        on_file(self.path.clone(), move |path| open(path, unlock.as_deref())).await
    }
}

#[async_trait]
impl Kms for LocalKms {
    fn place(&self) -> String {
        format!("the file {}", self.path.display())
    }

    async fn generate_data_key(
        &self,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let material = KeyMaterial::generate();
        let RewrappedKey {
            wrapped,
            master_key,
        } = self.wrap(&material, context).await?;
        Ok(GeneratedKey {
            material,
            wrapped,
            master_key,
        })
    }

    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        unwrap(&self.read().await?, wrapped, context)
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        Ok(info(self.read().await?.current()))
    }

    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError> {
        unwrap(&self.read().await?, wrapped, context)?;
        Ok(wrapping::master_key_id(wrapped)?.to_string())
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError> {
        let file = self.read().await?;
        let target = master_key.parse().ok().and_then(|id| file.find(id));
        let target = enabled(target.ok_or_else(|| unknown(master_key))?)?;
        let material = unwrap(&file, wrapped, context)?;
        Ok(RewrappedKey {
            wrapped: wrapping::wrap(target, &material, context)?,
            master_key: target.id.to_string(),
        })
    }

    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError> {
        let file = self.read().await?;
        let master_key = enabled(file.current())?;
        Ok(RewrappedKey {
            wrapped: wrapping::wrap(master_key, material, context)?,
            master_key: master_key.id.to_string(),
        })
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        let unlock = self.unlock.clone();
        on_file(self.path.clone(), move |path| {
            // One process at a time: a change that overtook another would lose its master key, and
            // every data key under it.
            let _one_at_a_time = disk::lock(path)?;
            let mut file = open(path, unlock.as_deref())?;
            file.add();
            let file = stored(file, unlock.as_deref())?;
            disk::replace(path, &file.to_json())?;
            Ok(info(file.current()))
        })
        .await
    }
}

fn unwrap(
    file: &KeyFile<KeyMaterial>,
    wrapped: &WrappedKey,
    context: &EncryptionContext,
) -> Result<KeyMaterial, KmsError> {
    let id = wrapping::master_key_id(wrapped)?;
    let master_key = file.find(id).ok_or_else(|| unknown(&id.to_string()))?;
    wrapping::unwrap(enabled(master_key)?, wrapped, context)
}

fn info<M>(key: &MasterKey<M>) -> MasterKeyInfo {
    MasterKeyInfo {
        id: key.id.to_string(),
        state: key.state,
        provider: PROVIDER,
    }
}

fn unknown(master_key: &str) -> KmsError {
    KmsError::UnknownMasterKey {
        provider: PROVIDER,
        master_key: master_key.to_owned(),
    }
}

fn enabled<M>(key: &MasterKey<M>) -> Result<&MasterKey<M>, KmsError> {
    let master_key = key.id.to_string();
    match key.state {
        MasterKeyState::Enabled => Ok(key),
        MasterKeyState::Disabled => Err(KmsError::Disabled { master_key }),
        MasterKeyState::PendingDeletion => Err(KmsError::PendingDeletion { master_key }),
    }
}

fn read(path: &Path) -> Result<KeyFile<Stored>, KeyFileProblem> {
    KeyFile::parse(&disk::read(path)?)
}

/// Reads the file and opens its master keys.
fn open(path: &Path, unlock: Option<&Unlock>) -> Result<KeyFile<KeyMaterial>, KeyFileProblem> {
    let file = read(path)?;
    match (&file.protection, unlock) {
        (None, None) => file.unlock(None),
        (Some(derivation), Some(unlock)) => {
            let key = unlock.key(derivation)?;
            file.unlock(Some(&key))
        }
        (Some(_), None) => Err(KeyFileProblem::PassphraseNeeded),
        (None, Some(_)) => Err(KeyFileProblem::NotProtected),
    }
}

/// The file as it is stored, sealed if it is protected.
fn stored(
    file: KeyFile<KeyMaterial>,
    unlock: Option<&Unlock>,
) -> Result<KeyFile<Stored>, KeyFileProblem> {
    match (&file.protection, unlock) {
        (Some(derivation), Some(unlock)) => {
            let key = unlock.key(derivation)?;
            file.lock(Some(&key))
        }
        (Some(_), None) => Err(KeyFileProblem::PassphraseNeeded),
        (None, _) => file.lock(None),
    }
}
