//! The keys of a batch's keyring are unwrapped as they are met, or say why values under them stay.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rekey_client::ClientError;
use rekey_domain::{KeyId, KeyState, KeyringName, QuarantineReason};
use rekey_envelope::DataKey;
use rekey_operations::{OperationError, Services};
use rekey_store::keys;
use uuid::Uuid;

/// The keys of the batch's keyring, unwrapped as they are met.
pub struct Keys {
    pub keyring: KeyringName,
    ours: HashMap<KeyId, Ours>,
    pub met: HashMap<KeyId, Met>,
    pub released: Released,
}

/// What a person released of a page's values under closed keys, and those keys.
#[derive(Default)]
pub struct Released {
    pub values: HashSet<(Uuid, String)>,
    pub keys: HashMap<KeyId, Arc<DataKey>>,
}

/// A key of the batch's keyring.
#[derive(Clone, Copy)]
pub struct Ours {
    /// Its state.
    pub state: KeyState,
    /// Whether anything of ours was ever encrypted under it.
    pub was_primary: bool,
    /// Whether it is compromised and all was moved that was written in time: nothing is moved any more, but what a
    /// person released.
    pub is_closed: bool,
}

/// What opens values under a key id, or why they stay as they are.
pub enum Met {
    Key(Arc<DataKey>),
    Not(QuarantineReason),
}

impl Keys {
    /// Keys of `keyring`, which are `ours`.
    pub fn new(keyring: KeyringName, ours: HashMap<KeyId, Ours>) -> Self {
        Self {
            keyring,
            ours,
            met: HashMap::new(),
            released: Released::default(),
        }
    }

    /// The key of a value that a person released.
    pub fn released(&self, key: KeyId, column: Uuid, whole: String) -> Option<&DataKey> {
        let key = self.released.keys.get(&key)?;
        self.released
            .values
            .contains(&(column, whole))
            .then_some(key)
    }

    /// Whether nothing is moved from under it any more, but what a person released.
    pub fn is_closed(&self, id: KeyId) -> bool {
        self.ours.get(&id).is_some_and(|ours| ours.is_closed)
    }

    /// Gets a key, or why values under it stay as they are.
    pub async fn meet(&mut self, services: &Services, id: KeyId) -> Result<(), OperationError> {
        if self.met.contains_key(&id) {
            return Ok(());
        }
        let met = match self.ours.get(&id) {
            Some(ours) => self.ours(services, id, *ours).await?,
            None if keys::find(services.store.db(), id).await?.is_some() => {
                Met::Not(QuarantineReason::OtherKeyring)
            }
            None => Met::Not(QuarantineReason::MissingKey),
        };
        self.met.insert(id, met);
        Ok(())
    }

    async fn ours(
        &self,
        services: &Services,
        id: KeyId,
        ours: Ours,
    ) -> Result<Met, OperationError> {
        let Ours {
            state, was_primary, ..
        } = ours;
        if !was_primary {
            return Ok(Met::Not(QuarantineReason::NeverActive));
        }
        if ours.is_closed {
            return Ok(Met::Not(QuarantineReason::WrittenAfterCompromise));
        }
        match services.client.decryption_key(&self.keyring, id).await {
            Ok(key) => Ok(Met::Key(key)),
            // A key in use must exist, so its values are no matter for quarantine: they are only out of reach now.
            Err(ClientError::UnknownKey { .. }) if state.is_kept(was_primary) => {
                Err(OperationError::NoMaterial {
                    keyring: self.keyring.clone(),
                    key: id,
                    state,
                })
            }
            Err(ClientError::UnknownKey { .. }) => Ok(Met::Not(QuarantineReason::MissingKey)),
            Err(error) => Err(error.into()),
        }
    }
}
