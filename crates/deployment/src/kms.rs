//! The KMS that the configuration names.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use rekey_envelope::KeyMaterial;
use rekey_kms::{
    EncryptionContext, GeneratedKey, Kms, KmsError, LocalKms, MasterKeyInfo, Passphrase,
    RewrappedKey, WrappedKey,
};
use rekey_runtime::config::KmsConfig;

use rekey_operations::OperationError;

/// Connects to the KMS that is configured. `key_file` is the local one's where no path is said.
///
/// # Errors
/// [`OperationError::Kms`], or [`OperationError::Configuration`] for a name that no master key has.
pub(crate) async fn connect_kms(
    config: &KmsConfig,
    key_file: &Path,
) -> Result<Arc<dyn Kms>, OperationError> {
    Ok(match Configured::of(config, key_file)? {
        Configured::File(path, passphrase) => {
            Arc::new(LocalKms::open_with(path, read(passphrase).await?).await?)
        }
        #[cfg(feature = "services")]
        Configured::Aws(settings) => Arc::new(rekey_kms::AwsKms::connect(&settings).await?),
    })
}

/// The same, for `init`: makes the master key, and the alias it has in AWS, where there is none.
///
/// # Errors
/// As [`connect_kms`]; doing it again goes on from there.
pub(crate) async fn create_kms(
    config: &KmsConfig,
    key_file: &Path,
) -> Result<Arc<dyn Kms>, OperationError> {
    Ok(match Configured::of(config, key_file)? {
        Configured::File(path, passphrase) => {
            Arc::new(LocalKms::create_with(path, read(passphrase).await?).await?)
        }
        #[cfg(feature = "services")]
        Configured::Aws(settings) => Arc::new(rekey_kms::AwsKms::create(&settings).await?),
    })
}

/// The local KMS, if it is the one that is configured.
///
/// # Errors
/// As [`connect_kms`].
pub(crate) async fn local_kms(
    config: &KmsConfig,
    key_file: &Path,
) -> Result<Option<LocalKms>, OperationError> {
    Ok(match Configured::of(config, key_file)? {
        Configured::File(path, passphrase) => {
            Some(LocalKms::open_with(path, read(passphrase).await?).await?)
        }
        #[cfg(feature = "services")]
        Configured::Aws(_) => None,
    })
}

async fn read(passphrase_file: Option<&Path>) -> Result<Option<Passphrase>, KmsError> {
    match passphrase_file {
        Some(file) => Passphrase::read(file).await.map(Some),
        None => Ok(None),
    }
}

/// Answers every request with the same error.
pub(crate) struct NoKms(KmsError);

impl NoKms {
    /// For a process that uses no keys, and so has no right to any.
    pub(crate) fn unused() -> Self {
        Self(KmsError::AccessDenied {
            master_key: "(this process uses none)".to_owned(),
        })
    }

    /// For a process that only shows how things stand while the KMS cannot be opened.
    pub(crate) fn unopened(error: KmsError) -> Self {
        Self(error)
    }

    fn denied<T>(&self) -> Result<T, KmsError> {
        Err(self.0.clone())
    }
}

#[async_trait]
impl Kms for NoKms {
    fn place(&self) -> String {
        "the KMS that [kms] names".to_owned()
    }

    async fn generate_data_key(&self, _: &EncryptionContext) -> Result<GeneratedKey, KmsError> {
        self.denied()
    }

    async fn decrypt(
        &self,
        _: &WrappedKey,
        _: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        self.denied()
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        self.denied()
    }

    async fn wrapped_by(&self, _: &WrappedKey, _: &EncryptionContext) -> Result<String, KmsError> {
        self.denied()
    }

    async fn rewrap(
        &self,
        _: &WrappedKey,
        _: &EncryptionContext,
        _: &str,
    ) -> Result<RewrappedKey, KmsError> {
        self.denied()
    }

    async fn wrap(&self, _: &KeyMaterial, _: &EncryptionContext) -> Result<RewrappedKey, KmsError> {
        self.denied()
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        self.denied()
    }
}

enum Configured<'a> {
    /// The master key file, and the one with its passphrase.
    File(&'a Path, Option<&'a Path>),
    #[cfg(feature = "services")]
    Aws(rekey_kms::AwsSettings),
}

impl<'a> Configured<'a> {
    fn of(config: &'a KmsConfig, key_file: &'a Path) -> Result<Self, OperationError> {
        match config {
            KmsConfig::Local {
                path,
                passphrase_file,
            } => Ok(Self::File(
                path.as_deref().unwrap_or(key_file),
                passphrase_file.as_deref(),
            )),
            #[cfg(not(feature = "services"))]
            KmsConfig::Aws { .. } => Err(OperationError::Configuration {
                place: "kms.provider".to_owned(),
                problem: "this program was built without AWS KMS; expected one that was built with it, as images and releases are: cargo build --package rekey --features services".to_owned(),
            }),
            #[cfg(feature = "services")]
            KmsConfig::Aws {
                master_key,
                endpoint_url,
                region,
            } => Ok(Self::Aws(rekey_kms::AwsSettings {
                master_key: master_key.parse().map_err(misnamed)?,
                region: region.clone(),
                endpoint_url: endpoint_url.clone(),
            })),
        }
    }
}

#[cfg(feature = "services")]
fn misnamed(error: rekey_kms::NotAwsMasterKey) -> OperationError {
    OperationError::Configuration {
        place: "kms.master_key".to_owned(),
        problem: error.to_string(),
    }
}
