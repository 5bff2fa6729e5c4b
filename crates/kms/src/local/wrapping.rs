//! The local wrapped key: `0x01 ‖ master key id ‖ nonce ‖ ciphertext ‖ tag`, AES-256-GCM.

use rekey_envelope::{Aead, AeadError, Gcm, KeyMaterial};
use uuid::Uuid;

use super::{disk::PROVIDER, key_file::MasterKey};
use crate::{EncryptionContext, KmsError, WrappedKey};

const VERSION: u8 = 0x01;
/// Version and master key id.
const HEADER_LEN: usize = 1 + 16;
/// Header, nonce, a data key and tag.
const WRAPPED_LEN: usize = HEADER_LEN + 12 + 32 + 16;

/// Wraps `material` under `master_key`, with the canonical `context` as associated data.
pub(super) fn wrap(
    master_key: &MasterKey<KeyMaterial>,
    material: &KeyMaterial,
    context: &EncryptionContext,
) -> Result<WrappedKey, KmsError> {
    let gcm = Gcm::new(&master_key.material);
    let body = gcm.encrypt(material.expose_key_bytes(), &context.to_bytes());
    let body = body.map_err(no_randomness)?;
    Ok([&[VERSION], master_key.id.as_bytes().as_slice(), &body]
        .concat()
        .into())
}

/// The master key that `wrapped` says it is wrapped under.
pub(super) fn master_key_id(wrapped: &WrappedKey) -> Result<Uuid, KmsError> {
    let bytes = wrapped.as_bytes();
    let (&[version, ref id @ ..], _) = bytes
        .split_first_chunk::<HEADER_LEN>()
        .filter(|_| bytes.len() == WRAPPED_LEN)
        .ok_or_else(|| KmsError::NotWrappedKey {
            reason: format!("expected {WRAPPED_LEN} bytes, found {}", bytes.len()),
        })?;
    if version != VERSION {
        let reason = format!("expected version {VERSION}, found {version}");
        return Err(KmsError::NotWrappedKey { reason });
    }
    Ok(Uuid::from_bytes(*id))
}

/// Unwraps `wrapped`, of which [`master_key_id`] named `master_key`.
pub(super) fn unwrap(
    master_key: &MasterKey<KeyMaterial>,
    wrapped: &WrappedKey,
    context: &EncryptionContext,
) -> Result<KeyMaterial, KmsError> {
    let body = wrapped.as_bytes().get(HEADER_LEN..).unwrap_or_default();
    let wrong_context = KmsError::WrongContext {
        key_id: context.key_id,
    };
    Gcm::new(&master_key.material)
        .decrypt(body, &context.to_bytes())
        .ok()
        .and_then(|bytes| KeyMaterial::from_slice(&bytes).ok())
        .ok_or(wrong_context)
}

/// The only way wrapping 32 bytes can fail.
fn no_randomness(error: AeadError) -> KmsError {
    KmsError::OutOfReach {
        provider: PROVIDER,
        reason: error.to_string(),
    }
}
