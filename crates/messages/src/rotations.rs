//! Rotations: asked for, taken further, ended.

use rekey_domain::{Canary, KeyId, KeyName, KeyringName, RotationKind, RotationReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Message, Queue, Route};

/// Asks for a rotation of a keyring. Anyone who is allowed to may publish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationRequested {
    /// The keyring to rotate.
    pub keyring: KeyringName,
    /// Why. Of what comes from outside `request` is noted, whatever it says: the others are what Rekey finds itself.
    #[serde(default = "by_request")]
    pub reason: RotationReason,
    /// Whether its batches overtake all others.
    #[serde(default)]
    pub urgent: bool,
    /// How much of it is done before it waits for a person; nothing: all of it.
    #[serde(flatten)]
    pub canary: Canary,
}

impl Message for RotationRequested {
    const TYPE: &'static str = "rekey.rotation.requested.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
    const FROM_OUTSIDE: bool = true;
}

impl RotationRequested {
    /// Asks for a rotation of all rows.
    pub fn of_all(keyring: KeyringName, reason: RotationReason) -> Self {
        Self {
            keyring,
            reason,
            urgent: false,
            canary: Canary::default(),
        }
    }
}

fn by_request() -> RotationReason {
    RotationReason::Request
}

/// A rotation may have a step to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationDue {
    /// The rotation.
    pub rotation: Uuid,
}

impl Message for RotationDue {
    const TYPE: &'static str = "rekey.rotation.due.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}

/// A batch may be worked on. The re-encryptor checks all of it against the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchReady {
    /// The batch.
    pub batch: Uuid,
    /// The rotation it belongs to.
    pub rotation: Uuid,
    /// The generation of the rotation that sent it; older ones do nothing.
    pub generation: u32,
    /// The key that values are moved to.
    pub target: KeyId,
    /// Whether it overtakes all others.
    #[serde(default)]
    pub urgent: bool,
}

impl Message for BatchReady {
    const TYPE: &'static str = "rekey.batch.ready.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::ReEncryptor));
    const URGENT: Option<Queue> = Some(Queue::ReEncryptorUrgent);

    fn is_urgent(&self) -> bool {
        self.urgent
    }
}

/// A keyring's values are to be looked at for stragglers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StragglersWanted {
    /// The keyring.
    pub keyring: KeyringName,
}

impl Message for StragglersWanted {
    const TYPE: &'static str = "rekey.stragglers.wanted.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}

/// A rotation ended with a census of zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationCompleted {
    /// The rotation.
    pub rotation: Uuid,
    /// The keyring's primary key, a new one unless it was a sweep.
    pub key: KeyName,
    /// Whether the rotation made a switch.
    #[serde(default)]
    pub kind: RotationKind,
}

impl Message for RotationCompleted {
    const TYPE: &'static str = "rekey.rotation.completed.v1";
    const ROUTE: Route = Route::of_workers(None);
}

/// A rotation stopped; a person is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationFailed {
    /// The rotation.
    pub rotation: Uuid,
    /// The keyring.
    pub keyring: KeyringName,
    /// Why, without any value of a row.
    pub reason: String,
    /// Whether the rotation makes a switch.
    #[serde(default)]
    pub kind: RotationKind,
}

impl Message for RotationFailed {
    const TYPE: &'static str = "rekey.rotation.failed.v1";
    const ROUTE: Route = Route::of_workers(None);
}
