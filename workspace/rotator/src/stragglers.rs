//! `stragglers.wanted`: looks for values below a keyring's primary key, as after a restore of a source, and has them
//! swept.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Principal, RotationReason, RotationState, Worker, worth_a_sweep};
use rekey_messages::StragglersWanted;
use rekey_operations::{OperationError, Services, Stragglers, look_for_stragglers, sweep};
use rekey_runtime::{
    Handler, Job, JobError,
    leased::{self, Ended},
};
use rekey_store::{
    Unit,
    audit::{self, Record},
    emptied,
    keyrings::{self, Keyring},
    keys::{self, Key},
    rotations::{self, Rotation},
    stragglers::{self, Findings},
};
use serde_json::json;

/// Another rotator looks.
const BUSY: Duration = Duration::from_secs(30);

/// Looks for stragglers.
pub struct LookForStragglers {
    pub services: Services,
}

#[async_trait]
impl Handler for LookForStragglers {
    type Command = StragglersWanted;
    const NAME: &'static str = "rotator.stragglers";

    async fn handle(&self, command: StragglersWanted, job: &Job) -> Result<(), JobError> {
        let Services { store, holder, .. } = &self.services;
        let keyring = keyrings::by_name(store.db(), &command.keyring).await?;
        // A rotation that is not over counts by itself, and there is another look tomorrow.
        if self.latest(&keyring).await?.is_some_and(is_under_way) {
            return Ok(());
        }
        let name = format!("stragglers/{}", keyring.id);
        let looked = leased::run((store, holder), &name, async |_| {
            Ok::<_, OperationError>(Ended::Held(
                look_for_stragglers(&self.services, &keyring).await?,
            ))
        });
        match looked.await {
            Ok(Some(found)) => self.answer(job, &keyring, found).await?,
            Ok(None) => return Err(JobError::Snooze(BUSY)),
            Err(OperationError::Store(error)) => return Err(error.into()),
            Err(error) => self.note_failure(job, &keyring, &error).await?,
        }
        Ok(())
    }
}

fn is_under_way(rotation: Rotation) -> bool {
    rotation.state.is_live() || rotation.state == RotationState::Failed
}

impl LookForStragglers {
    async fn latest(&self, keyring: &Keyring) -> Result<Option<Rotation>, OperationError> {
        Ok(rotations::latest(self.services.store.db(), keyring.id).await?)
    }

    /// Notes what was found, and asks for a sweep where that is worth it.
    async fn answer(
        &self,
        job: &Job,
        keyring: &Keyring,
        found: Stragglers,
    ) -> Result<(), OperationError> {
        let latest = self.latest(keyring).await?.map(|latest| latest.state);
        let sweeps = worth_a_sweep(latest, &found.below, &found.in_quarantine);
        let pen = self.services.pen(&Worker::Rotator.principal()).await?;
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        let noted = Findings {
            stragglers: found.values(),
            columns: found.columns.clone(),
            unknown_keys: found.unknown_keys.clone(),
        };
        stragglers::note(&unit, keyring.id, &noted).await?;
        come_back(&unit, keyring, &found).await?;
        if sweeps {
            let record = begin_sweep(&unit, keyring, &found).await?;
            pen.append(
                &unit,
                Record {
                    action: audit::Action::SweepStarted,
                    subject: keyring.name.as_str(),
                    outcome: "done",
                    details: record,
                },
            )
            .await?;
        }
        unit.commit().await?;
        tracing::info!(keyring = %keyring.name, values = found.values(), sweeps, "looked for stragglers");
        Ok(())
    }

    async fn note_failure(
        &self,
        job: &Job,
        keyring: &Keyring,
        error: &OperationError,
    ) -> Result<(), OperationError> {
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        stragglers::note_failure(&unit, keyring.id, &error.to_string()).await?;
        unit.commit().await?;
        tracing::warn!(keyring = %keyring.name, %error, "nobody could look for stragglers");
        Ok(())
    }
}

/// Values are under a compromised key that was empty, as after a restore: clients get the key again until it is empty.
async fn come_back(
    unit: &Unit,
    keyring: &Keyring,
    found: &Stragglers,
) -> Result<(), OperationError> {
    let keys = keys::of_keyring(unit.db(), keyring.id).await?;
    let under = |key: &Key| found.below.keys().any(|(_, id)| *id == key.id);
    for key in keys.iter().filter(|key| under(key)) {
        emptied::come_back(unit, keyring, key).await?;
    }
    Ok(())
}

/// Starts the sweep, and gives what the audit log keeps of it.
async fn begin_sweep(
    unit: &Unit,
    keyring: &Keyring,
    found: &Stragglers,
) -> Result<serde_json::Value, OperationError> {
    let principal = Principal::schedule(keyring.name.as_str());
    let reason = RotationReason::Schedule;
    let (rotation, outcome) = sweep(unit, keyring.id, &found.columns, reason, &principal).await?;
    Ok(json!({
        "rotation": rotation.id,
        "keyring": keyring.name,
        "because": "stragglers",
        "outcome": outcome,
        "columns": found.columns,
        "values": found.values(),
    }))
}
