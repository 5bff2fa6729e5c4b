//! AWS KMS: master keys that never leave it, behind an alias.

mod answers;
mod arn;
mod connection;
mod errors;
mod master_keys;
mod settings;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_kms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::DataKeySpec,
};
use rekey_domain::KeyId;
use rekey_envelope::{KeyMaterial, Zeroizing};
use tokio::sync::OnceCell;

use crate::{
    EncryptionContext, GeneratedKey, Kms, KmsError, MasterKeyInfo, RewrappedKey, WrappedKey,
};
pub use settings::{AwsMasterKey, AwsSettings, NotAwsMasterKey};
/// The longest ciphertext that AWS KMS takes.
const MAX_WRAPPED_LEN: usize = 6_144;

/// A master key in AWS KMS.
///
/// Every request ends within ten seconds, three attempts included; callers that can wait longer
/// retry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AwsKms {
    client: Client,
    master_key: AwsMasterKey,
    /// Account and region of our master keys, once they are known.
    home: Arc<OnceCell<String>>,
}

impl AwsKms {
    /// Sets up requests with the credentials of the SDK's default chain. Asks nothing of the KMS yet.
    ///
    /// # Errors
    /// [`KmsError::Configuration`] where no region is said anywhere.
    pub async fn connect(settings: &AwsSettings) -> Result<Self, KmsError> {
        let sdk = connection::load(settings).await?;
        Ok(Self::with_sdk_config(&sdk, settings.master_key.clone()))
    }

    /// The same as [`connect`](Self::connect), and makes the master key and its alias if the alias
    /// does not exist. Of several processes that do this at once, one makes them and all use them.
    ///
    /// # Errors
    /// [`KmsError`]; doing it again goes on from there.
    pub async fn create(settings: &AwsSettings) -> Result<Self, KmsError> {
        let kms = Self::connect(settings).await?;
        kms.ensure_master_key().await?;
        Ok(kms)
    }

    /// Region, endpoint and credentials as `sdk` says; timeouts and retries are ours.
    pub fn with_sdk_config(sdk: &SdkConfig, master_key: AwsMasterKey) -> Self {
        Self {
            client: connection::client(sdk),
            master_key,
            home: Arc::default(),
        }
    }

    /// Unwraps, and answers the master key's ARN as well.
    ///
    /// The request names no master key, as a data key may be under an earlier one and its blob says which. By itself
    /// that would trust every key that we may use, even one that another account shares with us so that we encrypt
    /// under a data key it knows. For that reason AWS recommends naming the key. We check afterwards where the key was,
    /// and accept none from outside our account and region.
    async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<(KeyMaterial, String), KmsError> {
        let request = self
            .client
            .decrypt()
            .ciphertext_blob(blob(wrapped)?)
            .set_encryption_context(Some(pairs(context)));
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, Some(context.key_id)))?;
        let material = key_material(answer.plaintext);
        let master_key = answer.key_id.ok_or_else(errors::malformed)?;
        self.check_is_ours(&master_key, context).await?;
        Ok((material?, master_key))
    }

    async fn check_is_ours(
        &self,
        master_key: &str,
        context: &EncryptionContext,
    ) -> Result<(), KmsError> {
        let home = self.home().await?;
        if arn::home(master_key) == Some(home) {
            return Ok(());
        }
        Err(KmsError::ForeignMasterKey {
            key_id: context.key_id,
            found: arn::shown(master_key),
            expected: home.to_owned(),
        })
    }

    /// Where our master keys are. An alias points into its own account and region, so this does not
    /// change with the current master key.
    async fn home(&self) -> Result<&str, KmsError> {
        let asked = self.home.get_or_try_init(async || {
            let id = self.describe().await?.id;
            let home = arn::home(&id).map(str::to_owned);
            home.ok_or_else(errors::malformed)
        });
        Ok(asked.await?)
    }

    fn error<E: ProvideErrorMetadata>(
        &self,
        error: &SdkError<E>,
        key_id: Option<KeyId>,
    ) -> KmsError {
        errors::of_sdk(error, self.master_key.as_str(), key_id)
    }
}

#[async_trait]
impl Kms for AwsKms {
    fn place(&self) -> String {
        format!("AWS KMS, {}", self.master_key)
    }

    async fn generate_data_key(
        &self,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let request = self
            .client
            .generate_data_key()
            .key_id(self.master_key.as_str())
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(pairs(context)));
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, None))?;
        let material = key_material(answer.plaintext);
        Ok(GeneratedKey {
            material: material?,
            wrapped: wrapped(answer.ciphertext_blob)?,
            master_key: answer.key_id.ok_or_else(errors::malformed)?,
        })
    }

    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        Ok(self.unwrap(wrapped, context).await?.0)
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        let request = self.client.describe_key().key_id(self.master_key.as_str());
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, None))?;
        answers::info(answer.key_metadata)
    }

    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError> {
        Ok(self.unwrap(wrapped, context).await?.1)
    }

    async fn rewrap(
        &self,
        old: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError> {
        let request = self
            .client
            .re_encrypt()
            .ciphertext_blob(blob(old)?)
            .set_source_encryption_context(Some(pairs(context)))
            .destination_key_id(master_key)
            .set_destination_encryption_context(Some(pairs(context)));
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, Some(context.key_id)))?;
        let source = answer.source_key_id.ok_or_else(errors::malformed)?;
        self.check_is_ours(&source, context).await?;
        Ok(RewrappedKey {
            wrapped: wrapped(answer.ciphertext_blob)?,
            master_key: answer.key_id.ok_or_else(errors::malformed)?,
        })
    }

    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError> {
        // The SDK's blob is not zeroized; what is in it leaves with the request.
        let request = self
            .client
            .encrypt()
            .key_id(self.master_key.as_str())
            .plaintext(Blob::new(material.expose_key_bytes().as_slice()))
            .set_encryption_context(Some(pairs(context)));
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, Some(context.key_id)))?;
        Ok(RewrappedKey {
            wrapped: wrapped(answer.ciphertext_blob)?,
            master_key: answer.key_id.ok_or_else(errors::malformed)?,
        })
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        self.replace_master_key().await
    }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    let pairs = context.pairs().into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A length that the service would refuse is told apart from a blob that it cannot open.
fn blob(wrapped: &WrappedKey) -> Result<Blob, KmsError> {
    let len = wrapped.as_bytes().len();
    if (1..=MAX_WRAPPED_LEN).contains(&len) {
        return Ok(Blob::new(wrapped.as_bytes()));
    }
    Err(KmsError::NotWrappedKey {
        reason: format!("expected 1 to {MAX_WRAPPED_LEN} bytes, found {len}"),
    })
}

fn wrapped(blob: Option<Blob>) -> Result<WrappedKey, KmsError> {
    let blob = blob.ok_or_else(errors::malformed)?;
    Ok(blob.into_inner().into())
}

/// The SDK's blob is not zeroized, so its buffer is taken from it and zeroized here. (The text that
/// the answer came in stays the SDK's.)
fn key_material(blob: Option<Blob>) -> Result<KeyMaterial, KmsError> {
    let blob = blob.ok_or_else(errors::malformed)?;
    let bytes = Zeroizing::new(blob.into_inner());
    KeyMaterial::from_slice(&bytes).map_err(|_| errors::malformed())
}
