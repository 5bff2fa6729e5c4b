//! Wrapping stored keys anew, one unit a key, each looked at before it replaces what was.

use std::collections::{HashMap, HashSet};

use rekey_client::ClientError;
use rekey_domain::{KeyId, KeyName, Purpose};
use rekey_envelope::CheckValue;
use rekey_kms::{EncryptionContext, WrappedKey};
use rekey_store::{
    StoreError,
    backups::bundles,
    keyrings::{self, Keyring},
    keys::{self, Key, StoredKey},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{OperationError, Services, keys::making::encryption_context};

/// A key that stays under the master key it was under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotRewrapped {
    /// The key.
    pub key: KeyName,
    /// Why.
    pub problem: String,
}

/// The work of one rotation of the master key, and what became of it.
pub(super) struct Rewrapping<'a> {
    services: &'a Services,
    deployment: Uuid,
    keyrings: HashMap<Uuid, Keyring>,
    /// Keys that this work is done with, so that it ends whatever another does at the same time.
    handled: HashSet<KeyId>,
    rewrapped: u64,
    failed: Vec<NotRewrapped>,
}

impl<'a> Rewrapping<'a> {
    pub(super) async fn load(services: &'a Services) -> Result<Self, OperationError> {
        let deployment = keyrings::deployment(services.store.db()).await?;
        Ok(Self {
            services,
            deployment,
            keyrings: HashMap::new(),
            handled: HashSet::new(),
            rewrapped: 0,
            failed: Vec::new(),
        })
    }

    /// Asks the KMS for the master key of each key of which it is not known. Keys that do not open
    /// stay unknown, and fail later by name.
    pub(super) async fn learn_master_keys(&mut self) -> Result<(), OperationError> {
        for key in self.left(|key| key.master_key.is_none()).await? {
            match self.learn(&key).await {
                Err(error) if error.is_retryable() && !is_stale(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Wraps anew what is not under `master_key`, until nothing is: keys are made meanwhile.
    pub(super) async fn all_under(&mut self, master_key: &str) -> Result<(), OperationError> {
        loop {
            let elsewhere = |key: &StoredKey| key.master_key.as_deref() != Some(master_key);
            let left = self.left(elsewhere).await?;
            if left.is_empty() {
                return Ok(());
            }
            for key in left {
                self.handle(&key, master_key).await?;
            }
        }
    }

    /// How many keys were wrapped anew, and which were not.
    pub(super) fn counts(self) -> (u64, Vec<NotRewrapped>) {
        (self.rewrapped, self.failed)
    }

    async fn left(
        &mut self,
        which: impl Fn(&StoredKey) -> bool,
    ) -> Result<Vec<StoredKey>, OperationError> {
        let db = self.services.store.db();
        // Keys first: a keyring is there before its keys are.
        let mut keys = keys::wrapped(db).await?;
        let keyrings = keyrings::all(db).await?.into_iter();
        self.keyrings = keyrings.map(|keyring| (keyring.id, keyring)).collect();
        keys.retain(|key| which(key) && !self.handled.contains(&key.id));
        // What opens bundles first.
        keys.sort_by_key(|key| self.keyring(key).purpose != Purpose::Backup);
        Ok(keys)
    }

    /// Handles one key. An error that passes by itself ends the work, as the next key would meet it too; an error of
    /// the key itself is noted.
    async fn handle(&mut self, key: &StoredKey, master_key: &str) -> Result<(), OperationError> {
        match self.rewrap(key, master_key).await {
            Ok(()) => self.rewrapped += 1,
            // Changed by another meanwhile, so read again in the next round.
            Err(error) if is_stale(&error) => return Ok(()),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                let key = self.name(key);
                tracing::warn!(%key, %error, "a key is not wrapped anew");
                let problem = error.to_string();
                self.failed.push(NotRewrapped { key, problem });
            }
        }
        self.handled.insert(key.id);
        Ok(())
    }

    async fn rewrap(&self, key: &StoredKey, master_key: &str) -> Result<(), OperationError> {
        let (wrapped, context) = (wrapped(key), self.context(key));
        let kms = &self.services.kms;
        let new = kms.rewrap(&wrapped, &context, master_key).await?;
        if new.master_key != master_key {
            return Err(OperationError::Refused(format!(
                "expected a key under master key {master_key}, found one under {}",
                new.master_key
            )));
        }
        // Once replaced, the old wrapped material is gone, so what replaces it must open now.
        let material = kms.decrypt(&new.wrapped, &context).await?;
        let expected = CheckValue::try_from(key.check_value.as_slice());
        if !expected.is_ok_and(|expected| expected.matches(&material)) {
            return Err(ClientError::WrongKeyMaterial { key: key.id }.into());
        }
        self.replace(key, new.wrapped, &new.master_key).await
    }

    async fn learn(&self, key: &StoredKey) -> Result<(), OperationError> {
        let wrapped = wrapped(key);
        let kms = &self.services.kms;
        let master_key = kms.wrapped_by(&wrapped, &self.context(key)).await?;
        self.replace(key, wrapped, &master_key).await
    }

    async fn replace(
        &self,
        key: &StoredKey,
        wrapped: WrappedKey,
        master_key: &str,
    ) -> Result<(), OperationError> {
        let services = self.services;
        let unit = services.store.begin().await?;
        keys::rewrap(&unit, key, wrapped.into(), master_key).await?;
        if self.keyring(key).purpose == Purpose::Backup {
            // Its bundle holds it as the master key before wrapped it.
            bundles::want(&unit, key.id).await?;
        }
        Ok(unit.commit().await?)
    }

    fn context(&self, key: &Key) -> EncryptionContext {
        encryption_context(self.deployment, self.keyring(key), key.id)
    }

    fn name(&self, key: &Key) -> KeyName {
        key.name(self.keyring(key))
    }

    fn keyring(&self, key: &Key) -> &Keyring {
        self.keyrings
            .get(&key.keyring_id)
            .expect("keyrings are read after the keys, and none is ever removed")
    }
}

fn wrapped(key: &StoredKey) -> WrappedKey {
    let wrapped = key.wrapped.clone();
    wrapped
        .expect("only keys with wrapped material are read")
        .into()
}

fn is_stale(error: &OperationError) -> bool {
    matches!(error, OperationError::Store(StoreError::Stale { .. }))
}
