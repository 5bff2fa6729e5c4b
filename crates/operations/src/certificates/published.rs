//! The public keys that certificates are verified with: every key of every SIGNING keyring.

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_domain::{Principal, Purpose};
use rekey_envelope::{Jwk, JwkSet, PublicKey};
use rekey_store::{
    keyrings::{self, Keyring},
    keys::{self, Key},
};

use crate::{Action, OperationError, Services, authorise};

/// All of them, whatever their state: what a key once signed is verified with it for ever. Asks the
/// store only.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn published_keys(
    services: &Services,
    principal: &Principal,
) -> Result<JwkSet, OperationError> {
    authorise(principal, Action::ReadPublishedKeys)?;
    Ok(key_set(services).await?)
}

/// The same, for a program's own use.
pub(crate) async fn key_set(services: &Services) -> Result<JwkSet, rekey_store::StoreError> {
    let db = services.store.db();
    let mut set = JwkSet::default();
    for keyring in keyrings::all(db).await? {
        if keyring.purpose == Purpose::Signing {
            let keys = keys::of_keyring(db, keyring.id).await?;
            set.keys
                .extend(keys.iter().filter_map(|key| published(&keyring, key)));
        }
    }
    Ok(set)
}

fn published(keyring: &Keyring, key: &Key) -> Option<Jwk> {
    let public_key = PublicKey::try_from(key.public_key.as_deref()?).ok()?;
    let mut jwk = Jwk::new(key.id, &public_key);
    jwk.name = Some(key.name(keyring));
    jwk.state = Some(key.state);
    jwk.created_at = Some(time(key.created_at));
    jwk.activated_at = key.activated_at.map(time);
    jwk.deactivated_at = key.deactivated_at.map(time);
    jwk.compromised_since = key.compromised_since.or(key.reported_at).map(time);
    Some(jwk)
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
