//! Keys: wanted, made, changed.

use rekey_domain::{KeyId, KeyName, KeyringName};
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
