//! A states document: of each key where it is in its life and which bundle it has. It names no keyring, as names tell.

use chrono::{DateTime, Utc};
use rekey_domain::{KeyId, KeyState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    BundleName, CheckpointError,
    encoding::time,
    strict::{self, beginning, check_length},
};

/// The most bytes that a states document has. One of 10,000 keys has less than half.
pub const MAX_STATES_LEN: usize = 8 * 1024 * 1024;
/// What `schema` says. The version is in it.
const SCHEMA: &str = "rekey.states/v1";

/// What became of the keys of a deployment, as far as one destination has their bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatesDocument {
    /// The deployment of Rekey.
    pub deployment: Uuid,
    /// The name of the deployment's newest bundle, if the destination has one.
    pub deployment_bundle: Option<String>,
    /// Every key that there ever was, once. The record of a DESTROYED key is its tombstone.
    pub keys: Vec<KeyRecord>,
}

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The key.
    pub key_id: KeyId,
    /// Its keyring's id.
    pub keyring: Uuid,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it first was the primary key, if it ever was. Of both times microseconds are kept, up to the year 9999.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::optional"
    )]
    pub first_primary_at: Option<DateTime<Utc>>,
    /// When it was first reported to be compromised, if it was.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::optional"
    )]
    pub reported_at: Option<DateTime<Utc>>,
    /// The name of its newest bundle, if the destination has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// The JSON that is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    schema: String,
    deployment: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment_bundle: Option<String>,
    keys: Vec<KeyRecord>,
}

impl StatesDocument {
    /// The bytes to store. The same states give the same bytes, in whichever order the keys are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut keys = self.keys.clone();
        keys.sort_by_key(|record| record.key_id);
        strict::write(&Form {
            schema: SCHEMA.to_owned(),
            deployment: self.deployment,
            deployment_bundle: self.deployment_bundle.clone(),
            keys,
        })
    }

    /// Reads what is stored as `name`. No altered byte passes; that the name is Rekey's is for a checkpoint to say.
    ///
    /// # Errors
    /// [`CheckpointError`] unless it is the states document of this name.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        check_length(MAX_STATES_LEN, bytes)?;
        check_name(name, bytes)?;
        let form: Form = strict::read(SCHEMA, bytes)?;
        let read = Self {
            deployment: form.deployment,
            deployment_bundle: form.deployment_bundle,
            keys: form.keys,
        };
        read.check_keys()?;
        read.check_bundles()?;
        let found = Self::name_of(read.deployment, bytes);
        match found == name {
            true => Ok(read),
            false => Err(CheckpointError::OtherName {
                expected: beginning(name),
                found,
            }),
        }
    }

    /// The name of a deployment's states document that has these bytes: `states/<deployment>/<SHA-256>.json`.
    pub fn name_of(deployment: Uuid, bytes: &[u8]) -> String {
        Self::name_of_hash(deployment, &Self::sha256_of(bytes))
    }

    /// What a checkpoint says of a states document that has these bytes.
    pub fn sha256_of(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    pub(crate) fn name_of_hash(deployment: Uuid, sha256: &[u8; 32]) -> String {
        format!("states/{deployment}/{}.json", hex::encode(sha256))
    }

    /// Each key once, in the order of their ids.
    fn check_keys(&self) -> Result<(), CheckpointError> {
        for pair in self.keys.windows(2) {
            let (before, key_id) = (pair[0].key_id, pair[1].key_id);
            if before == key_id {
                return Err(CheckpointError::KeyTwice { key_id });
            }
            if before > key_id {
                return Err(CheckpointError::OtherText);
            }
        }
        Ok(())
    }

    /// That what it names are bundles, so that nobody is led elsewhere by it.
    fn check_bundles(&self) -> Result<(), CheckpointError> {
        let deployment = self.deployment;
        let of_deployment = self.deployment_bundle.as_deref();
        if let Some(name) = of_deployment.filter(|name| !is_of_deployment(name, deployment)) {
            let found = beginning(name);
            return Err(CheckpointError::OtherDeploymentBundle { deployment, found });
        }
        self.keys.iter().try_for_each(KeyRecord::check_bundle)
    }
}

impl KeyRecord {
    fn check_bundle(&self) -> Result<(), CheckpointError> {
        let (key_id, name) = (self.key_id, self.bundle.as_deref());
        let of_key = |text: &str| {
            let parsed = text.parse::<BundleName>();
            parsed.is_ok_and(|bundle| bundle.key_id() == key_id)
        };
        match name.filter(|name| !of_key(name)) {
            None => Ok(()),
            Some(other) => Err(CheckpointError::OtherBundle {
                key_id,
                found: beginning(other),
            }),
        }
    }
}

/// That `name` has the hash of the bytes. Looked at first: of what was altered that is told, and it is not read.
fn check_name(name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
    let found = deployment_in(name).map(|deployment| StatesDocument::name_of(deployment, bytes));
    match found {
        Some(found) if found == name => Ok(()),
        Some(found) => Err(CheckpointError::OtherBytes {
            expected: beginning(name),
            found,
        }),
        None => Err(CheckpointError::NotAName {
            found: beginning(name),
        }),
    }
}

fn deployment_in(name: &str) -> Option<Uuid> {
    let (deployment, _) = name.strip_prefix("states/")?.split_once('/')?;
    deployment.parse().ok()
}

/// Whether `name` is one that [`DeploymentBundle::name_of`](crate::DeploymentBundle::name_of) gives.
fn is_of_deployment(name: &str, deployment: Uuid) -> bool {
    let folder = format!("deployments/{deployment}/");
    let rest = name.strip_prefix(&folder);
    let sha256 = rest.and_then(|rest| rest.strip_suffix(".json"));
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    sha256.is_some_and(|text| text.len() == 64 && text.bytes().all(is_digit))
}
