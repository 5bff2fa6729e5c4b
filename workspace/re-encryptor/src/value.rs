//! One stored value: what key it names, opening it, sealing it anew.

use std::borrow::Cow;

use rekey_client::ClientError;
use rekey_domain::{KeyId, QuarantineReason, TextEncoding};
use rekey_envelope::{Ciphertext, DataKey, Zeroizing, decode_base64, encode_base64};
use rekey_operations::OperationError;
use rekey_sources::StoredValue;

/// What became of a value.
pub enum Opened {
    /// It opened, bound to this place.
    Moved {
        /// What it says.
        plaintext: Zeroizing<Vec<u8>>,
        /// The place.
        aad: Vec<u8>,
    },
    /// It stays as it is.
    Not(QuarantineReason),
}

/// The ciphertext bytes, if the value stands as its column's ciphertext does.
fn bytes(stored: &StoredValue, encoding: TextEncoding) -> Option<Cow<'_, [u8]>> {
    match (stored, encoding) {
        (StoredValue::Bytes(bytes), TextEncoding::Binary) => Some(Cow::Borrowed(bytes)),
        (StoredValue::Text(text), TextEncoding::Base64) => decode_base64(text).ok().map(Cow::Owned),
        _ => None,
    }
}

/// The key id it names, if it is ciphertext at all.
pub fn key_id(stored: &StoredValue, encoding: TextEncoding) -> Option<KeyId> {
    let bytes = bytes(stored, encoding)?;
    Ciphertext::parse(&bytes)
        .ok()
        .map(|ciphertext| ciphertext.key_id())
}

/// Opens it under `aad`.
pub fn open(
    key: &DataKey,
    stored: &StoredValue,
    encoding: TextEncoding,
    aad: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = bytes(stored, encoding)?;
    key.decrypt(&Ciphertext::parse(&bytes).ok()?, aad).ok()
}

/// Seals a plaintext, and opens the result again to be sure before anything is overwritten.
pub fn seal(
    target: &DataKey,
    plaintext: &[u8],
    aad: &[u8],
    encoding: TextEncoding,
) -> Result<StoredValue, OperationError> {
    let sealed = target.encrypt(plaintext, aad).map_err(ClientError::from)?;
    let stored = match encoding {
        TextEncoding::Binary => StoredValue::Bytes(sealed),
        TextEncoding::Base64 => StoredValue::Text(encode_base64(&sealed)),
    };
    let same = open(target, &stored, encoding, aad).is_some_and(|opened| *opened == plaintext);
    if same {
        Ok(stored)
    } else {
        Err(OperationError::Refused(
            "a value did not open again after sealing".to_owned(),
        ))
    }
}
