//! Keys: wanted, made, changed.

use std::fmt;

use chrono::{DateTime, Utc};
use rekey_domain::{KeyId, KeyName, KeyRef, KeyringName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Message, Queue, Route};

/// A keyring wants its next key made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyWanted {
    /// The keyring.
    pub keyring: KeyringName,
}

impl Message for StandbyWanted {
    const TYPE: &'static str = "rekey.standby.wanted.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}

/// A key was made and stored, wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyCreated {
    /// The key.
    pub key: KeyName,
    /// Its id.
    pub key_id: KeyId,
}

impl Message for KeyCreated {
    const TYPE: &'static str = "rekey.key.created.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}

/// A keyring's primary key or key set changed: every process asks the store again, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyringChanged {
    /// The keyring.
    pub keyring: KeyringName,
}

impl Message for KeyringChanged {
    const TYPE: &'static str = "rekey.keyring.changed.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::EveryProcess));
}

/// Reports that others know a key: it is stopped and replaced at once. Anyone who is allowed to may publish it. What it
/// says is sealed where it is admitted, and no program of ours sends it on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyCompromised {
    /// The key: `phi/3`, or its id in eight hex digits.
    pub key: KeyRef,
    /// Why, at most 4096 bytes.
    pub reason: String,
    /// Since when others know it; absent: nobody can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// A reason may hold anything.
impl fmt::Debug for KeyCompromised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCompromised")
            .field("key", &self.key)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Message for KeyCompromised {
    const TYPE: &'static str = "rekey.key.compromised.v1";
    const ROUTE: Route = Route::from_outside(Queue::Reports);
    const FROM_OUTSIDE: bool = true;
}
