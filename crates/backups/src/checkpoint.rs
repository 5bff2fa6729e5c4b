//! A checkpoint: what the states of keys and the head of the audit log were, after which checkpoint.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    CheckpointError, StatesDocument,
    encoding::{hash, time},
    strict,
};

pub(crate) mod chain;
pub(crate) mod error;
pub(crate) mod signed;

/// The most bytes that a signed checkpoint has.
pub const MAX_CHECKPOINT_LEN: usize = 16 * 1024;
/// What `schema` says. The version is in it.
const SCHEMA: &str = "rekey.checkpoint/v1";

/// A checkpoint at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The deployment of Rekey.
    pub deployment: Uuid,
    /// Its number, from 1; each is higher than the one before.
    pub counter: u64,
    /// The one before at this destination, unless it is the first there.
    pub previous: Option<Previous>,
    /// The newest entry of the audit log.
    pub audit: AuditHead,
    /// The SHA-256 of the states document.
    pub states: [u8; 32],
    /// When it was written, up to the year 9999; microseconds are kept.
    pub written_at: DateTime<Utc>,
}

/// The checkpoint before, at the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its counter: lower by more than one where the destination was away meanwhile.
    pub counter: u64,
    /// The SHA-256 of its bytes as they are stored.
    #[serde(with = "hash")]
    pub sha256: [u8; 32],
}

/// The newest entry of the audit log; the default is that of a log without entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Its number; 0 where there is none.
    pub sequence: u64,
    /// Its hash; 32 zero bytes where there is none.
    #[serde(with = "hash")]
    pub hash: [u8; 32],
}

/// The JSON that is signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    schema: String,
    deployment: Uuid,
    counter: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
    audit: AuditHead,
    #[serde(with = "hash")]
    states: [u8; 32],
    #[serde(with = "time")]
    written_at: DateTime<Utc>,
}

impl Checkpoint {
    /// Where the checkpoints of a deployment are.
    pub fn folder(deployment: Uuid) -> String {
        format!("checkpoints/{deployment}")
    }

    /// The name of a deployment's checkpoint of this counter. In the order of names they are in the order of counters.
    pub fn name_of(deployment: Uuid, counter: u64) -> String {
        format!("{}/{counter:020}.jws", Self::folder(deployment))
    }

    /// The name of the states document that it was written with.
    pub fn states_name(&self) -> String {
        StatesDocument::name_of_hash(self.deployment, &self.states)
    }

    pub(crate) fn to_payload(&self) -> Vec<u8> {
        strict::write(&Payload {
            schema: SCHEMA.to_owned(),
            deployment: self.deployment,
            counter: self.counter,
            previous: self.previous,
            audit: self.audit,
            states: self.states,
            written_at: self.written_at,
        })
    }

    fn read(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let payload: Payload = strict::read(SCHEMA, bytes)?;
        let checkpoint = Self {
            deployment: payload.deployment,
            counter: payload.counter,
            previous: payload.previous,
            audit: payload.audit,
            states: payload.states,
            written_at: payload.written_at,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// That it does not contradict itself.
    fn check(&self) -> Result<(), CheckpointError> {
        let counter = self.counter;
        if counter == 0 {
            return Err(CheckpointError::CounterZero);
        }
        let named = self.previous.map(|previous| previous.counter);
        if let Some(previous) = named.filter(|before| !(1..counter).contains(before)) {
            return Err(CheckpointError::Order { counter, previous });
        }
        if self.audit.sequence == 0 && self.audit != AuditHead::default() {
            return Err(CheckpointError::AuditHead { counter });
        }
        Ok(())
    }
}
