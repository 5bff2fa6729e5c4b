//! Signing: the key of the keyring `signing` is unwrapped, checked, used once, and wiped.

use rekey_domain::{KeyId, KeyState, Principal};
use rekey_envelope::{CheckValue, Jws, PublicKey, SigningKey};
use rekey_kms::WrappedKey;
use rekey_store::{
    keyrings::{self, Keyring},
    keys,
    rotations::Rotation,
};
use serde_json::{Value, json};

use super::{content::SignedBy, verify::TYP};
use crate::{
    Action, Desired, OperationError, Services, authorise, keys::making::encryption_context,
};

/// A certificate with its signature, not stored yet.
pub struct SignedCertificate {
    /// The certificate as a JWS in compact serialisation.
    pub jws: String,
    /// Who signed.
    pub signed_by: SignedBy,
}

/// Signs the certificate of a completed rotation with the primary key of the keyring `signing`.
/// Nothing is stored.
///
/// # Errors
/// [`OperationError`] where there is no such key or the KMS does not unwrap it.
pub async fn sign_certificate(
    services: &Services,
    rotation: &Rotation,
    principal: &Principal,
) -> Result<SignedCertificate, OperationError> {
    authorise(principal, Action::Sign)?;
    let unwritten = || {
        refused(format!(
            "rotation {} has no certificate to sign",
            rotation.id
        ))
    };
    let written = rotation.certificate.as_deref().ok_or_else(unwritten)?;
    let mut payload: Value = serde_json::from_str(written).map_err(|_| unwritten())?;
    let (keyring, key) = signing_key(services).await?;
    let signed_by = SignedBy {
        key: key.name(&keyring),
        key_id: key.id,
        signed_at: services.store.now().await?,
    };
    payload["signed_by"] = json!(signed_by);
    let pair = unwrap(services, &keyring, &key).await?;
    let jws = Jws::sign(payload.to_string().as_bytes(), TYP, key.id, &pair);
    Ok(SignedCertificate { jws, signed_by })
}

/// What signs now, and its key's id.
///
/// # Errors
/// As [`sign_certificate`].
pub(crate) async fn signer(services: &Services) -> Result<(KeyId, SigningKey), OperationError> {
    let (keyring, key) = signing_key(services).await?;
    let pair = unwrap(services, &keyring, &key).await?;
    Ok((key.id, pair))
}

/// The primary key of the keyring `signing`.
async fn signing_key(services: &Services) -> Result<(Keyring, keys::StoredKey), OperationError> {
    let db = services.store.db();
    let name = Desired::signing_keyring().name;
    let keyring = keyrings::find(db, &name).await?;
    let keyring =
        keyring.ok_or_else(|| refused(format!("there is no keyring {name}; run rekey init")))?;
    let none = || refused(format!("keyring {name} has no primary key; run rekey init"));
    let id = keyring.primary_key_id.ok_or_else(none)?;
    let key = keys::find_stored(db, id).await?;
    let key = key.ok_or_else(none)?;
    if key.state != KeyState::Active || key.reported_at.is_some() {
        let compromised = key.name(&keyring);
        return Err(refused(format!(
            "{compromised} is compromised, and signs nothing: the certificate is signed by the key that replaces it"
        )));
    }
    Ok((keyring, key))
}

/// A wrong or swapped key signs nothing: what was unwrapped must have the key's check value, and the
/// public key that was published.
async fn unwrap(
    services: &Services,
    keyring: &Keyring,
    key: &keys::StoredKey,
) -> Result<SigningKey, OperationError> {
    let deployment = keyrings::deployment(services.store.db()).await?;
    let wrong = || rekey_client::ClientError::WrongKeyMaterial { key: key.id };
    let context = encryption_context(deployment, keyring, key.id);
    let wrapped = WrappedKey::from(key.wrapped.clone().ok_or_else(wrong)?);
    let material = services.kms.decrypt(&wrapped, &context).await?;
    let check_value = CheckValue::try_from(key.check_value.as_slice()).map_err(|_| wrong())?;
    let pair = SigningKey::new(&material)?;
    let published = key.public_key.as_deref().map(PublicKey::try_from);
    if !check_value.matches(&material) || published != Some(Ok(pair.public_key())) {
        return Err(wrong().into());
    }
    Ok(pair)
}

fn refused(why: String) -> OperationError {
    OperationError::Refused(why)
}
