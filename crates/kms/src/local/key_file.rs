//! The contents of a master key file: JSON, versioned, one current master key and older ones.

use base64::{Engine, engine::general_purpose::STANDARD};
use rekey_envelope::{KeyMaterial, Zeroizing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::passphrase::{Derivation, SealingKey};
use crate::{KeyFileProblem, MasterKeyState};

/// The version whose master keys lie open.
const OPEN: u32 = 1;
/// The version whose master keys a passphrase seals.
const SEALED: u32 = 2;
/// Nonce, master key and tag.
const SEALED_LEN: usize = 12 + 32 + 16;

/// Master keys; the current one wraps, any of them unwraps what it wrapped. `M` is what is held of
/// each: [`Stored`] as it is on the disk, [`KeyMaterial`] once it is unlocked.
pub(super) struct KeyFile<M> {
    /// Place of the current master key; there is always one.
    current: usize,
    master_keys: Vec<MasterKey<M>>,
    /// How the passphrase becomes the key that seals them; none: they lie open.
    pub(super) protection: Option<Derivation>,
}

/// One master key.
pub(super) struct MasterKey<M> {
    pub(super) id: Uuid,
    pub(super) state: MasterKeyState,
    pub(super) material: M,
}

/// A master key as it is stored.
pub(super) enum Stored {
    Open(KeyMaterial),
    Sealed(Vec<u8>),
}

impl<M> KeyFile<M> {
    /// The master key that wraps.
    pub(super) fn current(&self) -> &MasterKey<M> {
        &self.master_keys[self.current]
    }

    /// The same, to change its state.
    pub(super) fn current_mut(&mut self) -> &mut MasterKey<M> {
        &mut self.master_keys[self.current]
    }

    /// The master key `id`.
    pub(super) fn find(&self, id: Uuid) -> Option<&MasterKey<M>> {
        self.master_keys.iter().find(|key| key.id == id)
    }

    /// The same file, with each master key held in another way.
    fn holding<N>(
        self,
        mut turn: impl FnMut(Uuid, M) -> Result<N, KeyFileProblem>,
    ) -> Result<KeyFile<N>, KeyFileProblem> {
        let turned = self.master_keys.into_iter().map(|key| {
            Ok(MasterKey {
                id: key.id,
                state: key.state,
                material: turn(key.id, key.material)?,
            })
        });
        Ok(KeyFile {
            current: self.current,
            master_keys: turned.collect::<Result<_, _>>()?,
            protection: self.protection,
        })
    }
}

impl KeyFile<KeyMaterial> {
    /// A new file with one new master key.
    pub(super) fn generate() -> Self {
        Self {
            current: 0,
            master_keys: vec![MasterKey::generate()],
            protection: None,
        }
    }

    /// Adds a new master key, which is the current one from now on.
    pub(super) fn add(&mut self) {
        self.current = self.master_keys.len();
        self.master_keys.push(MasterKey::generate());
    }

    /// As it is stored: sealed with `key`, or open.
    pub(super) fn lock(self, key: Option<&SealingKey>) -> Result<KeyFile<Stored>, KeyFileProblem> {
        self.holding(|id, material| {
            Ok(match key {
                Some(key) => Stored::Sealed(key.seal(id, &material)?),
                None => Stored::Open(material),
            })
        })
    }
}

impl KeyFile<Stored> {
    /// Opens every master key; `key` is what the passphrase came to, if there is one.
    pub(super) fn unlock(
        self,
        key: Option<&SealingKey>,
    ) -> Result<KeyFile<KeyMaterial>, KeyFileProblem> {
        self.holding(|id, stored| match (stored, key) {
            (Stored::Open(material), _) => Ok(material),
            (Stored::Sealed(sealed), Some(key)) => key.open(id, &sealed),
            (Stored::Sealed(_), None) => Err(KeyFileProblem::PassphraseNeeded),
        })
    }

    /// Reads a file's contents.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeyFileProblem> {
        check_version(json)?;
        let raw: RawFile = serde_json::from_slice(json).map_err(malformed_json)?;
        let sealed = raw.version == SEALED;
        if sealed != raw.passphrase.is_some() {
            return Err(malformed(
                "its version and its passphrase differ".to_owned(),
            ));
        }
        let read = raw
            .master_keys
            .iter()
            .map(|key| MasterKey::read(key, sealed));
        let master_keys: Vec<MasterKey<Stored>> = read.collect::<Result<_, _>>()?;
        check_ids_differ(&master_keys)?;
        let current = master_keys.iter().position(|key| key.id == raw.current);
        let current = current.ok_or_else(|| {
            malformed(format!(
                "its current master key {} is not in it",
                raw.current
            ))
        })?;
        Ok(Self {
            current,
            master_keys,
            protection: raw.passphrase,
        })
    }

    /// The file's contents.
    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let texts = self.master_keys.iter().map(MasterKey::material_as_text);
        let texts: Vec<Zeroizing<String>> = texts.collect();
        let raw = RawFile {
            version: if self.protection.is_some() {
                SEALED
            } else {
                OPEN
            },
            current: self.current().id,
            passphrase: self.protection.clone(),
            master_keys: self
                .master_keys
                .iter()
                .zip(&texts)
                .map(|(key, text)| key.write(text))
                .collect(),
        };
        // All the room at once: growing would leave copies of the keys behind.
        let mut json = Zeroizing::new(Vec::with_capacity(256 * (2 + texts.len())));
        serde_json::to_writer_pretty(&mut *json, &raw).expect("writing to memory does not fail");
        json.push(b'\n');
        json
    }
}

/// The JSON. Unknown fields are refused, as a change of state writes the file anew without them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    version: u32,
    current: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<Derivation>,
    #[serde(borrow)]
    master_keys: Vec<RawMasterKey<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMasterKey<'a> {
    id: Uuid,
    state: MasterKeyState,
    /// Borrowed from the file's buffer, which is zeroized, and never copied.
    material: &'a str,
}

#[derive(Deserialize)]
struct RawVersion {
    version: u32,
}

impl MasterKey<KeyMaterial> {
    fn generate() -> Self {
        Self {
            id: Uuid::new_v4(),
            state: MasterKeyState::Enabled,
            material: KeyMaterial::generate(),
        }
    }
}

impl MasterKey<Stored> {
    fn read(raw: &RawMasterKey<'_>, sealed: bool) -> Result<Self, KeyFileProblem> {
        let length = if sealed { SEALED_LEN } else { 32 };
        let wrong = || {
            malformed(format!(
                "master key {}: expected {length} bytes in base64",
                raw.id
            ))
        };
        // Decoded in one go before the padding is looked at.
        let mut bytes = Zeroizing::new([0; SEALED_LEN + 1]);
        let found = STANDARD
            .decode_slice(raw.material, &mut bytes[..=length])
            .map_err(|_| wrong())?;
        if found != length {
            return Err(wrong());
        }
        let material = if sealed {
            Stored::Sealed(bytes[..length].to_vec())
        } else {
            Stored::Open(KeyMaterial::from_slice(&bytes[..length]).map_err(|_| wrong())?)
        };
        Ok(Self {
            id: raw.id,
            state: raw.state,
            material,
        })
    }

    fn write<'a>(&self, material: &'a str) -> RawMasterKey<'a> {
        RawMasterKey {
            id: self.id,
            state: self.state,
            material,
        }
    }

    fn material_as_text(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.material {
            Stored::Open(material) => STANDARD.encode(material.expose_key_bytes()),
            Stored::Sealed(sealed) => STANDARD.encode(sealed),
        })
    }
}

/// Read by itself first, as a later version may have any shape.
fn check_version(json: &[u8]) -> Result<(), KeyFileProblem> {
    let RawVersion { version: found } = serde_json::from_slice(json).map_err(malformed_json)?;
    if (OPEN..=SEALED).contains(&found) {
        return Ok(());
    }
    Err(KeyFileProblem::Version {
        expected: SEALED,
        found,
    })
}

fn check_ids_differ(keys: &[MasterKey<Stored>]) -> Result<(), KeyFileProblem> {
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|other| other.id == key.id) {
            return Err(malformed(format!("master key {} is in it twice", key.id)));
        }
    }
    Ok(())
}

/// Says where only: serde's message quotes what it found, which may be a key.
fn malformed_json(error: serde_json::Error) -> KeyFileProblem {
    malformed(format!(
        "line {}, column {}: expected the JSON of a master key file",
        error.line(),
        error.column()
    ))
}

fn malformed(reason: String) -> KeyFileProblem {
    KeyFileProblem::Malformed { reason }
}
