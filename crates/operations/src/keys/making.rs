//! Making a data key: generated and wrapped by the KMS, with its check value.

use rekey_domain::{Algorithm, KeyId};
use rekey_envelope::{CheckValue, KeyMaterial, SigningKey};
use rekey_kms::{EncryptionContext, Kms};
use rekey_store::{Store, keyrings::Keyring, keys, keys::NewKey};
use uuid::Uuid;

use crate::OperationError;

/// A key that was made but not yet stored.
pub struct MadeKey {
    /// What the store keeps of it.
    pub new: NewKey,
    /// Its material, for the one caller who needs it before it is stored: `init`.
    pub material: KeyMaterial,
}

/// Makes a key for a keyring. Nothing is stored: a crash here wastes one generated key.
///
/// # Errors
/// [`OperationError::Kms`] when the KMS does not make one.
pub async fn make_key(
    store: &Store,
    kms: &dyn Kms,
    deployment: Uuid,
    keyring: &Keyring,
) -> Result<MadeKey, OperationError> {
    let id = free_id(store).await?;
    let context = encryption_context(deployment, keyring, id);
    let generated = kms.generate_data_key(&context).await?;
    let algorithm = keyring.algorithm;
    let new = NewKey {
        id,
        algorithm,
        wrapped: generated.wrapped.into(),
        master_key: generated.master_key,
        check_value: CheckValue::of(&generated.material).as_bytes().to_vec(),
        public_key: public_key(algorithm, &generated.material)?,
    };
    Ok(MadeKey {
        new,
        material: generated.material,
    })
}

/// The public half of a key that signs, so that it is published without asking the KMS.
fn public_key(
    algorithm: Algorithm,
    material: &KeyMaterial,
) -> Result<Option<Vec<u8>>, OperationError> {
    if algorithm != Algorithm::Ed25519 {
        return Ok(None);
    }
    let pair = SigningKey::new(material)?;
    Ok(Some(pair.public_key().as_bytes().to_vec()))
}

/// What a key of a keyring is bound to.
pub(crate) fn encryption_context(
    deployment: Uuid,
    keyring: &Keyring,
    key_id: KeyId,
) -> EncryptionContext {
    EncryptionContext {
        deployment,
        keyring: keyring.id,
        key_id,
        purpose: keyring.purpose,
    }
}

/// A random id that no key of the deployment has. The insert is what makes it unique for sure.
async fn free_id(store: &Store) -> Result<KeyId, OperationError> {
    loop {
        let id = KeyId::new(rand::random());
        if keys::find(store.db(), id).await?.is_none() {
            return Ok(id);
        }
    }
}
