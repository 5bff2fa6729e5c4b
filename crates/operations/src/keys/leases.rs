//! The client's `Leases` over the store: for our workers and embedded use.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rekey_client::{Keyset, KeysetKey, LeaseError, LeaseGrant, Leases, Use};
use rekey_domain::{
    ColumnSpec, KeyId, KeyState, KeyringName, Principal, Purpose, RotationState, UsageBlock, Worker,
};
use rekey_envelope::CheckValue;
use rekey_kms::{Kms, WrappedKey};
use rekey_store::{
    ConnectionTrait, Store, StoreError, columns,
    keyrings::{self, Keyring},
    keys, rotations,
};

use crate::keys::{making::encryption_context, uses::UseLog};

/// How long a process that cannot reach the store goes on decrypting with what it was given.
const DECRYPT_MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Longer than the store takes to say that it is out of reach, or that a lock was not free.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Grants from the store, in the name of one principal.
pub struct StoreLeases {
    store: Store,
    principal: Principal,
    log: Option<UseLog>,
}

impl StoreLeases {
    /// Grants to `principal`, whose uses are not written down.
    pub fn new(store: Store, principal: Principal) -> Self {
        Self {
            store,
            principal,
            log: None,
        }
    }

    /// Grants to `principal`, and writes what it reports into the audit log.
    pub fn audited(store: Store, principal: Principal, kms: Arc<dyn Kms>) -> Self {
        let own = Arc::new(Self::new(store.clone(), principal.clone()));
        let log = UseLog::new(store.clone(), kms, own, principal.clone());
        Self {
            log: Some(log),
            ..Self::new(store, principal)
        }
    }

    /// The keys that a client may hold: those in use; those that are compromised and were in use, as their values must
    /// be readable until they are moved; and the standby while it is distributed.
    async fn held_keys(&self, keyring: &Keyring) -> Result<Vec<keys::StoredKey>, StoreError> {
        let latest = rotations::latest(self.store.db(), keyring.id).await?;
        let distributed = latest
            .filter(|rotation| rotation.state == RotationState::Distributing)
            .and_then(|rotation| rotation.target_key_id);
        let mut keys = keys::stored_of_keyring(self.store.db(), keyring.id).await?;
        // A source's replica may show old rows for a while. The re-encryptor also reads what a restore brought back.
        let moves_rows = self.principal == Worker::ReEncryptor.principal();
        let now = self.store.now().await?;
        let is_done_with = |key: &keys::StoredKey| {
            let emptied = key.emptied_at.filter(|_| !moves_rows);
            emptied.is_some_and(|at| now > at + DECRYPT_MAX_AGE)
        };
        keys.retain(|key| {
            let standby = key.state == KeyState::Pending && Some(key.id) == distributed;
            standby || (key.state.may_decrypt(key.activated_at.is_some()) && !is_done_with(key))
        });
        Ok(keys)
    }
}

#[async_trait]
impl Leases for StoreLeases {
    async fn column(&self, name: &str) -> Result<ColumnSpec, LeaseError> {
        Ok(columns::by_name(self.store.db(), name)
            .await
            .map_err(answer)?
            .spec)
    }

    async fn keyset(&self, keyring: &KeyringName) -> Result<Keyset, LeaseError> {
        within(self.set(keyring)).await
    }

    async fn encrypt_lease(&self, keyring: &KeyringName) -> Result<LeaseGrant, LeaseError> {
        within(self.granted(keyring)).await
    }

    async fn usage_block(&self, key: KeyId, wanted: u64) -> Result<UsageBlock, LeaseError> {
        within(self.block(key, wanted)).await
    }

    async fn report(&self, uses: &[Use]) -> Result<(), LeaseError> {
        within(self.reported(uses)).await
    }
}

/// A network that swallows what is sent would have a caller wait for ever.
async fn within<T>(answer: impl Future<Output = Result<T, LeaseError>>) -> Result<T, LeaseError> {
    let answered = tokio::time::timeout(ANSWERED_WITHIN, answer).await;
    answered.unwrap_or_else(|_| {
        Err(LeaseError::OutOfReach {
            reason: format!(
                "the store gave no answer within {} s",
                ANSWERED_WITHIN.as_secs()
            ),
        })
    })
}

impl StoreLeases {
    async fn set(&self, keyring: &KeyringName) -> Result<Keyset, LeaseError> {
        let db = self.store.db();
        let deployment = keyrings::deployment(db).await.map_err(answer)?;
        let keyring = keyrings::by_name(db, keyring).await.map_err(answer)?;
        refuse_signing(&keyring)?;
        let held = self.held_keys(&keyring).await.map_err(answer)?;
        let keys = held
            .into_iter()
            .map(|key| keyset_key(deployment, &keyring, key))
            .collect::<Result<_, _>>()?;
        Ok(Keyset {
            keyring: keyring.name,
            max_age: keyring.policy.timing.keyset_max_age,
            decrypts_for: DECRYPT_MAX_AGE,
            keys,
        })
    }

    async fn granted(&self, keyring: &KeyringName) -> Result<LeaseGrant, LeaseError> {
        let found = keyrings::by_name(self.store.db(), keyring)
            .await
            .map_err(answer)?;
        refuse_signing(&found)?;
        refuse_suspended(self.store.db(), found.purpose).await?;
        let no_primary = || LeaseError::NoPrimary {
            keyring: keyring.clone(),
        };
        let key = found.primary_key_id.ok_or_else(no_primary)?;
        let stored = keys::find(self.store.db(), key).await.map_err(answer)?;
        if stored.is_some_and(|stored| stored.state == KeyState::Compromised) {
            return Err(LeaseError::Compromised { key });
        }
        Ok(LeaseGrant {
            key,
            lasts: found.policy.encrypt_lease,
        })
    }

    async fn block(&self, key: KeyId, wanted: u64) -> Result<UsageBlock, LeaseError> {
        // Moving rows draws on the hard budget and triggers no rotation, as it would trigger the next.
        let by_application = self.principal != Worker::ReEncryptor.principal();
        let unit = self.store.begin().await.map_err(answer)?;
        let drawn_on = keys::find(unit.db(), key).await.map_err(answer)?;
        if let Some(drawn_on) = drawn_on {
            let of = keyrings::by_id(unit.db(), drawn_on.keyring_id).await;
            refuse_suspended(unit.db(), of.map_err(answer)?.purpose).await?;
        }
        let block = keys::take_usage(&unit, key, wanted, by_application)
            .await
            .map_err(answer)?;
        unit.commit().await.map_err(answer)?;
        tracing::debug!(%key, size = block.size, principal = %self.principal, "usage block taken");
        Ok(block)
    }

    async fn reported(&self, uses: &[Use]) -> Result<(), LeaseError> {
        if let Some(log) = &self.log {
            log.append(uses)
                .await
                .map_err(|error| match error.is_retryable() {
                    true => LeaseError::OutOfReach {
                        reason: error.to_string(),
                    },
                    false => LeaseError::Refused {
                        reason: error.to_string(),
                    },
                })?;
        }
        Ok(())
    }
}

/// A store that was rolled back forgot what was reported: nothing but its own record is encrypted until a person has
/// reconciled it.
async fn refuse_suspended(db: &impl ConnectionTrait, purpose: Purpose) -> Result<(), LeaseError> {
    if purpose == Purpose::Audit {
        return Ok(());
    }
    let suspended = keys::suspension::suspension(db).await.map_err(answer)?;
    suspended.map_or(Ok(()), |suspended| {
        let reason = suspended.because;
        Err(LeaseError::Suspended { reason })
    })
}

/// What signs is handed to nobody: the rotator unwraps it where it signs.
fn refuse_signing(keyring: &Keyring) -> Result<(), LeaseError> {
    if keyring.purpose != Purpose::Signing {
        return Ok(());
    }
    Err(LeaseError::Refused {
        reason: format!(
            "keyring {} has purpose SIGNING: its keys sign, and never encrypt or decrypt; use a keyring of purpose PHI",
            keyring.name
        ),
    })
}

fn keyset_key(
    deployment: uuid::Uuid,
    keyring: &Keyring,
    key: keys::StoredKey,
) -> Result<KeysetKey, LeaseError> {
    let (id, version, algorithm) = (key.id, key.version, key.algorithm);
    let broken = |what: &str| LeaseError::Refused {
        reason: format!("key {id} has no {what} in the store"),
    };
    let context = encryption_context(deployment, keyring, id);
    Ok(KeysetKey {
        id,
        version,
        state: key.state,
        algorithm,
        wrapped: WrappedKey::from(key.wrapped.ok_or_else(|| broken("wrapped material"))?),
        check_value: CheckValue::try_from(key.check_value.as_slice())
            .map_err(|_| broken("check value"))?,
        context,
    })
}

fn answer(error: StoreError) -> LeaseError {
    match error {
        StoreError::Unknown { what, .. } => LeaseError::Unknown { what },
        StoreError::Compromised { key } => LeaseError::Compromised { key },
        error if error.is_retryable() => LeaseError::OutOfReach {
            reason: error.to_string(),
        },
        error => LeaseError::Refused {
            reason: error.to_string(),
        },
    }
}
