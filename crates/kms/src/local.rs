//! The local KMS: master keys in a file that only its owner can read.

mod disk;
mod key_file;
mod wrapping;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rekey_envelope::KeyMaterial;
use tokio::task::spawn_blocking;

use crate::{
    EncryptionContext, GeneratedKey, KeyFileProblem, Kms, KmsError, MasterKeyInfo, MasterKeyState,
    RewrappedKey, WrappedKey,
};
use key_file::{KeyFile, MasterKey};

/// What [`MasterKeyInfo`] and errors call it.
const PROVIDER: &str = "local";

/// Master keys in a file, for small deployments and first runs.
///
/// The file is read for each operation: a change of state applies at once, in every process, and no
/// master key stays in memory. Callers cache data keys, so this is rare.
#[derive(Debug, Clone)]
pub struct LocalKms {
    path: PathBuf,
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
        let path = on_file(path.into(), |path| {
            if !path.try_exists().map_err(disk::problem)? {
                disk::create(path, &KeyFile::generate().to_json())?;
            }
            Ok(path.to_owned())
        });
        Self::open(path.await?).await
    }

    /// Opens the master key file at `path`.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] if it is missing, open to others, or not a master key file.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, KmsError> {
        let kms = Self { path: path.into() };
        kms.read().await?;
        Ok(kms)
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
            change(path, |file| file.current_mut().state = state)?;
            Ok(())
        })
        .await
    }

    async fn read(&self) -> Result<KeyFile, KmsError> {
        on_file(self.path.clone(), read).await
    }
}

#[async_trait]
impl Kms for LocalKms {
    async fn generate_data_key(
        &self,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let file = self.read().await?;
        let master_key = enabled(file.current())?;
        let material = KeyMaterial::generate();
        let wrapped = wrapping::wrap(master_key, &material, context)?;
        Ok(GeneratedKey {
            material,
            wrapped,
            master_key: master_key.id.to_string(),
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

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        on_file(self.path.clone(), |path| {
            Ok(info(change(path, KeyFile::add)?.current()))
        })
        .await
    }
}

fn unwrap(
    file: &KeyFile,
    wrapped: &WrappedKey,
    context: &EncryptionContext,
) -> Result<KeyMaterial, KmsError> {
    let id = wrapping::master_key_id(wrapped)?;
    let master_key = file.find(id).ok_or_else(|| unknown(&id.to_string()))?;
    wrapping::unwrap(enabled(master_key)?, wrapped, context)
}

fn info(key: &MasterKey) -> MasterKeyInfo {
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

fn enabled(key: &MasterKey) -> Result<&MasterKey, KmsError> {
    let master_key = key.id.to_string();
    match key.state {
        MasterKeyState::Enabled => Ok(key),
        MasterKeyState::Disabled => Err(KmsError::Disabled { master_key }),
        MasterKeyState::PendingDeletion => Err(KmsError::PendingDeletion { master_key }),
    }
}

fn read(path: &Path) -> Result<KeyFile, KeyFileProblem> {
    KeyFile::parse(&disk::read(path)?)
}

/// Changes the file, one process at a time: a change that overtook another would lose its master
/// key, and every data key under it.
fn change(path: &Path, how: impl FnOnce(&mut KeyFile)) -> Result<KeyFile, KeyFileProblem> {
    let _one_at_a_time = disk::lock(path)?;
    let mut file = read(path)?;
    how(&mut file);
    disk::replace(path, &file.to_json())?;
    Ok(file)
}

/// Runs `work` on the file at `path` where it may block, and names the file in its error.
async fn on_file<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, KeyFileProblem> + Send + 'static,
) -> Result<T, KmsError> {
    let done =
        spawn_blocking(move || work(&path).map_err(|problem| KmsError::KeyFile { path, problem }));
    // It ends without a result only when the process shuts down.
    done.await.map_err(|error| KmsError::OutOfReach {
        provider: PROVIDER,
        reason: error.to_string(),
    })?
}
