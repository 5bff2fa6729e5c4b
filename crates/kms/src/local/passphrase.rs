//! A passphrase over the master keys of a file: argon2id makes it a key, and that seals each of them.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD};
use rekey_envelope::{Aead, Gcm, KeyMaterial, Zeroizing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::{self, on_file};
use crate::{KeyFileProblem, KmsError};

/// NIST SP 800-63B §3.1.1.2 asks for 15 characters of a password that is the only factor; here the
/// file is another.
const SHORTEST: usize = 12;
/// What a sealed master key is bound to, beside its id.
const LABEL: &str = "rekey local master key";

/// What a person or a secret store keeps apart from the master key file, which is of no use without
/// it. Zeroized when dropped; neither shown nor printed.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// A passphrase, without the line end that an editor put behind it.
    ///
    /// # Errors
    /// [`KeyFileProblem::PassphraseTooShort`].
    pub fn new(mut text: Zeroizing<Vec<u8>>) -> Result<Self, KeyFileProblem> {
        let end = text.trim_ascii_end().len();
        text.truncate(end);
        if text.len() < SHORTEST {
            return Err(KeyFileProblem::PassphraseTooShort { least: SHORTEST });
        }
        Ok(Self(text))
    }

    /// The passphrase in a file, which must be private to its owner as the master key file is.
    ///
    /// # Errors
    /// [`KmsError::KeyFile`] that names the passphrase's file.
    pub async fn read(path: impl AsRef<Path>) -> Result<Self, KmsError> {
        let path = path.as_ref().to_owned();
        on_file(path, |path| {
            Self::new(disk::read(path).map_err(of_passphrase)?)
        })
        .await
    }
}

/// What is missing is the passphrase's file, not a master key.
fn of_passphrase(problem: KeyFileProblem) -> KeyFileProblem {
    match problem {
        KeyFileProblem::Missing => KeyFileProblem::NoPassphraseFile,
        problem => problem,
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How a passphrase becomes a key. Stands in the file in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Derivation {
    kdf: Kdf,
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
    salt: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kdf {
    Argon2id,
}

impl Derivation {
    /// A new one with a salt of its own; the second choice of RFC 9106 §4, as a worker may have
    /// little memory.
    pub(super) fn new() -> Self {
        let salt = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
        Self {
            kdf: Kdf::Argon2id,
            memory_kib: 64 * 1024,
            iterations: 3,
            lanes: 4,
            salt: STANDARD.encode(salt.concat()),
        }
    }

    /// Whether it asks for no more memory and time than our own files do: whoever can write the file must not be able
    /// to use up all of them.
    fn is_bearable(&self) -> bool {
        let Self {
            memory_kib,
            iterations,
            lanes,
            ..
        } = *self;
        memory_kib <= 1024 * 1024 && iterations <= 16 && lanes <= 16
    }

    /// The key that `passphrase` stands for. Takes a while, on purpose.
    fn key(&self, passphrase: &Passphrase) -> Result<SealingKey, KeyFileProblem> {
        let malformed = || KeyFileProblem::Malformed {
            reason: "its passphrase settings are not ones that Rekey writes".to_owned(),
        };
        let Kdf::Argon2id = self.kdf;
        let salt = STANDARD.decode(&self.salt).map_err(|_| malformed())?;
        let params = Params::new(self.memory_kib, self.iterations, self.lanes, Some(32));
        let params = params.ok().filter(|_| self.is_bearable());
        let argon2 = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            params.ok_or_else(malformed)?,
        );
        let mut key = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(&passphrase.0, &salt, key.as_mut_slice())
            .map_err(|_| malformed())?;
        Ok(SealingKey(
            KeyMaterial::from_slice(&*key).expect("it has 32 bytes"),
        ))
    }
}

/// Seals master keys: AES-256-GCM, bound to the master key's id.
pub(super) struct SealingKey(KeyMaterial);

impl SealingKey {
    pub(super) fn seal(&self, id: Uuid, material: &KeyMaterial) -> Result<Vec<u8>, KeyFileProblem> {
        let sealed = Gcm::new(&self.0).encrypt(material.expose_key_bytes(), &place(id));
        // Only for want of randomness.
        sealed.map_err(|_| KeyFileProblem::Io(std::io::ErrorKind::WouldBlock))
    }

    pub(super) fn open(&self, id: Uuid, sealed: &[u8]) -> Result<KeyMaterial, KeyFileProblem> {
        let opened = Gcm::new(&self.0).decrypt(sealed, &place(id)).ok();
        opened
            .and_then(|bytes| KeyMaterial::from_slice(&bytes).ok())
            .ok_or(KeyFileProblem::WrongPassphrase)
    }
}

fn place(id: Uuid) -> Vec<u8> {
    [LABEL.as_bytes(), id.as_bytes()].concat()
}

/// A passphrase, and the key it came to last: deriving one for each operation would take too long.
pub(super) struct Unlock {
    passphrase: Passphrase,
    derived: Mutex<Option<(Derivation, Arc<SealingKey>)>>,
}

impl Unlock {
    pub(super) fn new(passphrase: Passphrase) -> Self {
        Self {
            passphrase,
            derived: Mutex::default(),
        }
    }

    pub(super) fn key(&self, derivation: &Derivation) -> Result<Arc<SealingKey>, KeyFileProblem> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, key)) = &*derived
            && known == derivation
        {
            return Ok(key.clone());
        }
        let key = Arc::new(derivation.key(&self.passphrase)?);
        *derived = Some((derivation.clone(), key.clone()));
        Ok(key)
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.passphrase.fmt(f)
    }
}
