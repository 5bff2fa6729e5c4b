//! `key.backed-up`: a rotation that waited for the proof of its standby goes on.

use async_trait::async_trait;
use rekey_messages::KeyBackedUp;
use rekey_operations::Services;
use rekey_runtime::{Handler, Job, JobError};

use crate::key_created::wake_rotation;

/// Wakes the keyring's live rotation.
pub struct KeyBackedUpMovesOn {
    pub services: Services,
}

#[async_trait]
impl Handler for KeyBackedUpMovesOn {
    type Command = KeyBackedUp;
    const NAME: &'static str = "rotator.key-backed-up";

    async fn handle(&self, command: KeyBackedUp, job: &Job) -> Result<(), JobError> {
        wake_rotation(&self.services, &command.key.keyring, job).await
    }
}
