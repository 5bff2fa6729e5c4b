//! A checkpoint as it is stored: signed, and believed only once the signature was verified.

use chrono::SubsecRound;
use rekey_domain::KeyId;
use rekey_envelope::{Jwk, JwkSet, Jws, JwsError, PublicKey, SigningKey};
use sha2::{Digest, Sha256};

use crate::{
    Checkpoint, CheckpointError, MAX_CHECKPOINT_LEN, Previous,
    encoding::decode_base64url,
    strict::{beginning, check_length},
};

/// What the signature is of, so that nothing else that is signed passes for it.
const TYP: &str = "rekey-checkpoint+json";

/// A checkpoint as it is stored. What it says is anybody's word until [`verify`](Self::verify) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    claims: Checkpoint,
    signed_by: KeyId,
    text: String,
}

impl Checkpoint {
    /// Signs it. The same checkpoint and key give the same bytes.
    ///
    /// It is signed as it is: what [`SignedCheckpoint::read`] refuses, such as a counter of 0, nobody will read.
    pub fn sign(&self, key: KeyId, pair: &SigningKey) -> SignedCheckpoint {
        let written_at = self.written_at.trunc_subsecs(6);
        let checkpoint = Self {
            written_at,
            ..self.clone()
        };
        SignedCheckpoint::sign(checkpoint, key, pair)
    }
}

impl SignedCheckpoint {
    fn sign(claims: Checkpoint, key: KeyId, pair: &SigningKey) -> Self {
        let text = Jws::sign(&claims.to_payload(), TYP, key, pair);
        Self {
            claims,
            signed_by: key,
            text,
        }
    }

    /// Reads what is stored as `name`. The signature is not verified: anybody who may write there can have made it.
    ///
    /// # Errors
    /// [`CheckpointError`] unless it has the form of a checkpoint that belongs under this name.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        check_length(MAX_CHECKPOINT_LEN, bytes)?;
        let text = str::from_utf8(bytes).map_err(|_| JwsError::Form("no text"))?;
        let signed_by = parse(text)?.kid();
        let read = Self {
            claims: Checkpoint::read(&payload(text)?)?,
            signed_by,
            text: text.to_owned(),
        };
        let found = read.name();
        match found == name {
            true => Ok(read),
            false => Err(CheckpointError::OtherName {
                expected: beginning(name),
                found,
            }),
        }
    }

    /// What it says, if `key` signed it. Whether that key may sign checkpoints is for the caller to know.
    ///
    /// # Errors
    /// [`CheckpointError`]; nothing that it claims is to be believed then.
    pub fn verify(
        &self,
        key: KeyId,
        public_key: &PublicKey,
    ) -> Result<&Checkpoint, CheckpointError> {
        if self.signed_by != key {
            return Err(CheckpointError::OtherKey {
                expected: key,
                found: self.signed_by,
            });
        }
        let keys = JwkSet {
            keys: vec![Jwk::new(key, public_key)],
        };
        // What is shown is what was signed, however it was read.
        let signed = parse(&self.text)?;
        match signed.verify(TYP, &keys)? == self.claims.to_payload() {
            true => Ok(&self.claims),
            false => Err(CheckpointError::OtherText),
        }
    }

    /// What it claims, not verified: to find the key by, and for people. Whatever is decided by it, decide by
    /// [`verify`](Self::verify).
    pub fn claims(&self) -> &Checkpoint {
        &self.claims
    }

    /// The key that it claims signed it.
    pub fn signed_by(&self) -> KeyId {
        self.signed_by
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }

    /// The name to store them under: `checkpoints/<deployment>/<counter, 20 digits>.jws`.
    pub fn name(&self) -> String {
        Checkpoint::name_of(self.claims.deployment, self.claims.counter)
    }

    /// What the next one at this destination says of it.
    pub fn as_previous(&self) -> Previous {
        Previous {
            counter: self.claims.counter,
            sha256: self.sha256(),
        }
    }
}

fn parse(text: &str) -> Result<Jws, JwsError> {
    Jws::parse(text).map_err(|error| match error {
        JwsError::Algorithm { found } => JwsError::Algorithm {
            found: beginning(&found),
        },
        other => other,
    })
}

/// The middle of the three parts. Reading the whole has found it to be base64url.
fn payload(text: &str) -> Result<Vec<u8>, JwsError> {
    let middle = text.split('.').nth(1).and_then(decode_base64url);
    middle.ok_or(JwsError::Form("the payload is no base64url"))
}
