//! Making master keys in AWS KMS, and the alias that says which one wraps.

use std::time::Duration;

use aws_sdk_kms::types::{KeySpec, KeyUsageType, Tag};

use super::{AwsKms, answers::info};
use crate::{Kms, KmsError, MasterKeyInfo};

const DESCRIPTION: &str = "Rekey PHI master key";
/// How often to look until the alias shows what it was just told.
const LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The shortest that AWS has. Only a master key that never wrapped anything is discarded.
const DISCARD_AFTER_DAYS: i32 = 7;

impl AwsKms {
    /// Makes a master key and the alias, if the alias does not exist.
    ///
    /// # Errors
    /// [`KmsError`]; nothing but perhaps a master key without an alias is left behind.
    pub async fn ensure_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        let found = self.describe().await;
        let unknown = matches!(found, Err(KmsError::UnknownMasterKey { .. }));
        match self.master_key.alias() {
            Some(alias) if unknown => self.make_first(alias).await,
            _ => found,
        }
    }

    /// An alias is made once: who comes second takes what is there.
    async fn make_first(&self, alias: &str) -> Result<MasterKeyInfo, KmsError> {
        let made = self.create_key().await?;
        let request = self.client.create_alias();
        let aliased = request.alias_name(alias).target_key_id(&made.id);
        match aliased.send().await {
            Ok(_) => self.settle(made).await,
            Err(error) if is_already_there(&error) => {
                self.discard(&made.id).await;
                self.settled().await
            }
            Err(error) => {
                left_behind(&made.id);
                Err(self.error(&error, None))
            }
        }
    }

    /// Makes a master key and points the alias at it.
    pub(super) async fn replace_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        let Some(alias) = self.master_key.alias() else {
            return Err(KmsError::Configuration {
                master_key: self.master_key.to_string(),
                problem: "is named by its id, so another cannot take its place; say master_key = \"alias/…\" in [kms], an alias of this master key",
            });
        };
        // An alias that does not exist is found before a master key is made in vain.
        self.describe().await?;
        let made = self.create_key().await?;
        let request = self.client.update_alias();
        let pointed = request.alias_name(alias).target_key_id(&made.id);
        if let Err(error) = pointed.send().await {
            left_behind(&made.id);
            return Err(self.error(&error, None));
        }
        self.settle(made).await
    }

    async fn create_key(&self) -> Result<MasterKeyInfo, KmsError> {
        let purpose = Tag::builder()
            .tag_key("Purpose")
            .tag_value("PHI_PROTECTION")
            .build()
            .expect("a tag has a key and a value");
        let request = self
            .client
            .create_key()
            .description(DESCRIPTION)
            .key_usage(KeyUsageType::EncryptDecrypt)
            .key_spec(KeySpec::SymmetricDefault)
            .tags(purpose);
        let sent = request.send().await;
        let answer = sent.map_err(|error| self.error(&error, None))?;
        info(answer.key_metadata)
    }

    /// Waits until the alias is the same everywhere, which takes a moment, so that whatever other processes make next
    /// is under the new master key. A process that asks earlier still gets the old one, which wraps and unwraps as
    /// before.
    async fn settle(&self, made: MasterKeyInfo) -> Result<MasterKeyInfo, KmsError> {
        for _ in 0..LOOKS {
            match self.describe().await {
                Ok(found) if found.id == made.id => return Ok(found),
                Ok(_) | Err(KmsError::UnknownMasterKey { .. }) => {}
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::warn!(master_key = %made.id, "the alias does not show its new master key yet");
        Ok(made)
    }

    /// Waits for an alias that another process has just made.
    async fn settled(&self) -> Result<MasterKeyInfo, KmsError> {
        for _ in 1..LOOKS {
            match self.describe().await {
                Err(KmsError::UnknownMasterKey { .. }) => {}
                answer => return answer,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.describe().await
    }

    /// Has a master key deleted that no alias ever pointed at.
    async fn discard(&self, id: &str) {
        let request = self.client.schedule_key_deletion().key_id(id);
        let asked = request.pending_window_in_days(DISCARD_AFTER_DAYS);
        if asked.send().await.is_err() {
            left_behind(id);
        }
    }
}

fn is_already_there(
    error: &aws_sdk_kms::error::SdkError<aws_sdk_kms::operation::create_alias::CreateAliasError>,
) -> bool {
    let error = error.as_service_error();
    error.is_some_and(|error| error.is_already_exists_exception())
}

/// Whether the alias points at it is not known, so it is left for a person to look at.
fn left_behind(id: &str) {
    tracing::warn!(
        master_key = id,
        "a master key was made and may have no alias; look at it, and delete it if nothing uses it"
    );
}
