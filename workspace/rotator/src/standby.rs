//! `standby.wanted`: has the KMS make the keyring's next key.

use async_trait::async_trait;
use rekey_domain::{RotationState, Worker};
use rekey_messages::{KeyCreated, StandbyWanted};
use rekey_operations::{Action, OperationError, Services, authorise, make_key, or_pause};
use rekey_runtime::{Handler, Job, JobError, crash};
use rekey_store::{
    audit::{self, Record},
    keyrings::{self, Keyring},
    keys, rotations,
};
use serde_json::json;

/// Makes standby keys.
pub struct MakeStandby {
    pub services: Services,
}

#[async_trait]
impl Handler for MakeStandby {
    type Command = StandbyWanted;
    const NAME: &'static str = "rotator.standby";

    async fn handle(&self, command: StandbyWanted, job: &Job) -> Result<(), JobError> {
        let keyring = keyrings::by_name(self.services.store.db(), &command.keyring).await?;
        let waiting = rotations::latest(self.services.store.db(), keyring.id).await?;
        let made = self.make(&keyring, job).await;
        // An emergency waits for no person: its standby is ordered again.
        let waits = |last: &rotations::Rotation| {
            last.state == RotationState::Requested && !last.lacks_its_key()
        };
        match waiting.filter(waits) {
            Some(waiting) => or_pause(job, &waiting, made).await,
            // Nobody waits for it; the scheduler orders it again.
            None if made.as_ref().is_err_and(OperationError::pauses) => {
                tracing::error!(keyring = %command.keyring, error = ?made.err(), "no standby key");
                Ok(())
            }
            None => Ok(made?),
        }
    }
}

impl MakeStandby {
    async fn make(&self, keyring: &Keyring, job: &Job) -> Result<(), OperationError> {
        let principal = Worker::Rotator.principal();
        authorise(&principal, Action::MakeKey)?;
        let Services { store, kms, .. } = &self.services;
        if keys::standby(store.db(), keyring.id).await?.is_some() {
            return Ok(());
        }
        // The KMS is asked before the unit begins: a duplicate wastes one generated key, and no row
        // is locked across the network.
        let deployment = keyrings::deployment(store.db()).await?;
        let made = make_key(store, &**kms, deployment, keyring).await?;
        crash::point("rotator.standby-generated");
        let pen = self.services.pen(&principal).await?;
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        // Of two that made one at once the second finds the first's.
        keyrings::lock(&unit, keyring.id).await?;
        if keys::standby(unit.db(), keyring.id).await?.is_some() {
            return Ok(());
        }
        let key = keys::insert_standby(&unit, keyring.id, made.new).await?;
        let name = key.name(keyring);
        unit.send(&KeyCreated {
            key: name.clone(),
            key_id: key.id,
        })
        .await?;
        let details = json!({ "key_id": key.id, "algorithm": key.algorithm, "backup": keyring.policy.backup });
        let subject = name.to_string();
        pen.append(
            &unit,
            Record {
                action: audit::Action::KeyCreated,
                subject: &subject,
                outcome: "done",
                details,
            },
        )
        .await?;
        unit.commit().await?;
        crash::point("rotator.standby-stored");
        tracing::info!(key = %name, key_id = %key.id, "standby key made");
        Ok(())
    }
}
