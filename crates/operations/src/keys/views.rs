//! Keys as people see them. Reads only.

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, HARD_LIMIT, KeyId, KeyName, KeyState, Principal, forecast};
use rekey_store::{
    StoreError,
    keyrings::{self, Keyring},
    keys::{self, Key},
};
use serde::Serialize;

use crate::{Action, OperationError, Services, authorise};

/// A key as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    /// `phi/3`.
    pub key: KeyName,
    /// Its id in ciphertext.
    pub key_id: KeyId,
    /// How it encrypts.
    pub algorithm: Algorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// Encryptions counted, blocks that were lost included.
    pub used: u64,
    /// Those of them that were no re-encryption.
    pub used_by_applications: u64,
    /// Encryptions that may ever be made under it (SP 800-38D §8.3).
    pub limit: u64,
    /// Encryptions by applications after which its keyring rotates itself.
    pub max_encryptions: u64,
    /// Encryptions by applications a day, on average since it became primary; none: it is not, or not
    /// long enough to tell.
    pub used_per_day: Option<u64>,
    /// When its keyring will rotate itself for their number, at this rate.
    pub max_reached_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires, once it is primary.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Every key, keyring by keyring.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn key_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<KeyView>, OperationError> {
    authorise(principal, Action::ReadKeys)?;
    Ok(all(services).await?)
}

pub(crate) async fn all(services: &Services) -> Result<Vec<KeyView>, StoreError> {
    let mut views = Vec::new();
    let now = services.store.now().await?;
    for keyring in keyrings::all(services.store.db()).await? {
        let keys = keys::of_keyring(services.store.db(), keyring.id).await?;
        views.extend(keys.iter().map(|key| key_view(key, &keyring, now)));
    }
    Ok(views)
}

fn key_view(key: &Key, keyring: &Keyring, now: DateTime<Utc>) -> KeyView {
    let used_by_applications = key.used_by_applications;
    let max_encryptions = keyring.policy.max_encryptions;
    let primary_since = key.activated_at.filter(|_| key.state == KeyState::Active);
    let ahead =
        primary_since.and_then(|since| forecast(used_by_applications, max_encryptions, since, now));
    KeyView {
        key: key.name(keyring),
        key_id: key.id,
        algorithm: key.algorithm,
        state: key.state,
        used: key.used,
        used_by_applications,
        limit: HARD_LIMIT,
        max_encryptions,
        used_per_day: ahead.map(|ahead| ahead.per_day),
        max_reached_at: ahead.and_then(|ahead| ahead.reached_at),
        created_at: key.created_at,
        expires_at: key.expires_at,
    }
}

/// The name of a keyring's key.
pub(crate) async fn key_name(
    services: &Services,
    keyring: &Keyring,
    id: Option<KeyId>,
) -> Result<Option<KeyName>, StoreError> {
    let Some(id) = id else {
        return Ok(None);
    };
    let key = keys::find(services.store.db(), id).await?;
    Ok(key.map(|key| key.name(keyring)))
}
