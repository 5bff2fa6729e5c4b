//! Counts what the KMS is asked, and how often it fails.

use std::sync::Arc;

use async_trait::async_trait;
use rekey_envelope::KeyMaterial;
use rekey_kms::{
    EncryptionContext, GeneratedKey, Kms, KmsError, MasterKeyInfo, RewrappedKey, WrappedKey,
};
use rekey_runtime::metrics::{KMS_CALLS, KMS_ERRORS};

/// A KMS whose requests are counted.
pub struct MeteredKms(pub Arc<dyn Kms>);

async fn counted<T>(
    operation: &'static str,
    request: impl Future<Output = Result<T, KmsError>> + Send,
) -> Result<T, KmsError> {
    metrics::counter!(KMS_CALLS, "operation" => operation).increment(1);
    let answer = request.await;
    // Zero is said too: a figure that is not there looks like one that is not measured.
    let failed = u64::from(answer.is_err());
    metrics::counter!(KMS_ERRORS, "operation" => operation).increment(failed);
    answer
}

#[async_trait]
impl Kms for MeteredKms {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn generate_data_key(
        &self,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        counted("generate-data-key", self.0.generate_data_key(context)).await
    }

    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        counted("decrypt", self.0.decrypt(wrapped, context)).await
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        counted("describe", self.0.describe()).await
    }

    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError> {
        counted("wrapped-by", self.0.wrapped_by(wrapped, context)).await
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError> {
        counted("rewrap", self.0.rewrap(wrapped, context, master_key)).await
    }

    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError> {
        counted("wrap", self.0.wrap(material, context)).await
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        counted("new-master-key", self.0.new_master_key()).await
    }
}
