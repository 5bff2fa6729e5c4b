//! The contents of a master key file: JSON, versioned, one current master key and older ones.

use base64::{Engine, engine::general_purpose::STANDARD};
use rekey_envelope::{KeyMaterial, Zeroizing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{KeyFileProblem, MasterKeyState};

/// The version this program reads and writes.
const VERSION: u32 = 1;

/// Master keys; the current one wraps, any of them unwraps what it wrapped.
pub(super) struct KeyFile {
    /// Place of the current master key; there is always one.
    current: usize,
    master_keys: Vec<MasterKey>,
}

/// One master key.
pub(super) struct MasterKey {
    pub(super) id: Uuid,
    pub(super) state: MasterKeyState,
    pub(super) material: KeyMaterial,
}

impl KeyFile {
    /// A new file with one new master key.
    pub(super) fn generate() -> Self {
        Self {
            current: 0,
            master_keys: vec![MasterKey::generate()],
        }
    }

    /// Adds a new master key, which is the current one from now on.
    pub(super) fn add(&mut self) {
        self.current = self.master_keys.len();
        self.master_keys.push(MasterKey::generate());
    }

    /// Reads a file's contents.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeyFileProblem> {
        check_version(json)?;
        let raw: RawFile = serde_json::from_slice(json).map_err(malformed_json)?;
        let master_keys: Vec<MasterKey> = raw
            .master_keys
            .iter()
            .map(MasterKey::read)
            .collect::<Result<_, _>>()?;
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
        })
    }

    /// The file's contents.
    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let texts = self.master_keys.iter().map(MasterKey::material_as_text);
        let texts: Vec<Zeroizing<String>> = texts.collect();
        let raw = RawFile {
            version: VERSION,
            current: self.current().id,
            master_keys: self
                .master_keys
                .iter()
                .zip(&texts)
                .map(|(key, text)| key.write(text))
                .collect(),
        };
        // All the room at once: growing would leave copies of the keys behind.
        let mut json = Zeroizing::new(Vec::with_capacity(256 * (1 + texts.len())));
        serde_json::to_writer_pretty(&mut *json, &raw).expect("writing to memory does not fail");
        json.push(b'\n');
        json
    }

    /// The master key that wraps.
    pub(super) fn current(&self) -> &MasterKey {
        &self.master_keys[self.current]
    }

    /// The same, to change its state.
    pub(super) fn current_mut(&mut self) -> &mut MasterKey {
        &mut self.master_keys[self.current]
    }

    /// The master key `id`.
    pub(super) fn find(&self, id: Uuid) -> Option<&MasterKey> {
        self.master_keys.iter().find(|key| key.id == id)
    }
}

/// The JSON. Unknown fields are refused, as a change of state writes the file anew without them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    version: u32,
    current: Uuid,
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

impl MasterKey {
    fn generate() -> Self {
        Self {
            id: Uuid::new_v4(),
            state: MasterKeyState::Enabled,
            material: KeyMaterial::generate(),
        }
    }

    fn read(raw: &RawMasterKey<'_>) -> Result<Self, KeyFileProblem> {
        let wrong = || {
            malformed(format!(
                "master key {}: expected 32 bytes in base64",
                raw.id
            ))
        };
        // 44 characters, decoded in one go before their padding is looked at.
        let mut bytes = Zeroizing::new([0; 33]);
        let len = STANDARD
            .decode_slice(raw.material, bytes.as_mut_slice())
            .map_err(|_| wrong())?;
        Ok(Self {
            id: raw.id,
            state: raw.state,
            material: KeyMaterial::from_slice(&bytes[..len]).map_err(|_| wrong())?,
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
        Zeroizing::new(STANDARD.encode(self.material.expose_key_bytes()))
    }
}

/// Read by itself first, as a later version may have any shape.
fn check_version(json: &[u8]) -> Result<(), KeyFileProblem> {
    let RawVersion { version: found } = serde_json::from_slice(json).map_err(malformed_json)?;
    if found == VERSION {
        return Ok(());
    }
    Err(KeyFileProblem::Version {
        expected: VERSION,
        found,
    })
}

fn check_ids_differ(keys: &[MasterKey]) -> Result<(), KeyFileProblem> {
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
