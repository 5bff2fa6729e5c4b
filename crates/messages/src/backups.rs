//! Backups: asked for, proved.

use rekey_domain::{DestinationName, KeyId, KeyName, KeyRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Message, Queue, Route};

/// Asks that a key, or every key, is backed up and proved now. Anyone who is allowed to may publish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupRequested {
    /// The key: `phi/3`, or its id in eight hex digits; absent: every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyRef>,
}

impl Message for BackupRequested {
    const TYPE: &'static str = "rekey.backup.requested.v1";
    const ROUTE: Route = Route::from_outside(Queue::Requests);
    const FROM_OUTSIDE: bool = true;
}

/// A key's backup at a destination was proved, for the first time or after it was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyBackedUp {
    /// The key.
    pub key: KeyName,
    /// Its id.
    pub key_id: KeyId,
    /// Where its bundle is kept.
    #[schemars(with = "String")]
    pub destination: DestinationName,
}

impl Message for KeyBackedUp {
    const TYPE: &'static str = "rekey.key.backed-up.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}
