//! `key.created`: a rotation that waited for a standby goes on.

use async_trait::async_trait;
use rekey_domain::KeyringName;
use rekey_messages::{KeyCreated, RotationDue};
use rekey_operations::Services;
use rekey_runtime::{Handler, Job, JobError};
use rekey_store::{keyrings, rotations};

/// Wakes the keyring's live rotation.
pub struct KeyCreatedMovesOn {
    pub services: Services,
}

#[async_trait]
impl Handler for KeyCreatedMovesOn {
    type Command = KeyCreated;
    const NAME: &'static str = "rotator.key-created";

    async fn handle(&self, command: KeyCreated, job: &Job) -> Result<(), JobError> {
        wake_rotation(&self.services, &command.key.keyring, job).await
    }
}

/// Has the live rotation of a keyring looked at again.
pub async fn wake_rotation(
    services: &Services,
    keyring: &KeyringName,
    job: &Job,
) -> Result<(), JobError> {
    let keyring = keyrings::by_name(services.store.db(), keyring).await?;
    let Some(unit) = job.begin().await? else {
        return Ok(());
    };
    let latest = rotations::latest(unit.db(), keyring.id).await?;
    if let Some(live) = latest.filter(|rotation| rotation.state.is_live()) {
        unit.send(&RotationDue { rotation: live.id }).await?;
    }
    Ok(unit.commit().await?)
}
