//! `rotation.requested`: joins the live rotation, supersedes a late one, or starts one.

use async_trait::async_trait;
use rekey_domain::{Principal, RequestDecision, Worker, decide_request};
use rekey_messages::{RotationDue, RotationRequested};
use rekey_operations::{OperationError, Services, no_canary};
use rekey_runtime::{Handler, Job, JobError, crash};
use rekey_store::{
    audit::{self, Record},
    batches, keyrings,
    rotations::{self, emergency},
};
use serde_json::json;

/// Starts rotations.
pub struct RequestRotation {
    pub services: Services,
}

#[async_trait]
impl Handler for RequestRotation {
    type Command = RotationRequested;
    const NAME: &'static str = "rotator.request";

    async fn handle(&self, command: RotationRequested, job: &Job) -> Result<(), JobError> {
        let principal = asked_by(job);
        let pen = self.services.pen(&principal).await?;
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        let keyring = keyrings::by_name(unit.db(), &command.keyring).await?;
        // Two requests at once are decided one after the other: the second joins.
        let keyring = keyrings::lock(&unit, keyring.id).await?;
        let latest = rotations::latest(unit.db(), keyring.id).await?;
        let stands = latest.as_ref();
        let stands = stands.map(|stands| (stands.state, stands.replaces_compromised()));
        let decision = decide_request(stands);
        let (rotation, action) = match (decision, latest) {
            // The canary was asked for while there was no rotation. If it joined this one, all rows would move.
            (RequestDecision::Join, Some(live)) if !command.canary.is_none() => {
                let why = no_canary(live.id, &keyring.name);
                return Err(JobError::Discard(OperationError::Refused(why).into()));
            }
            (RequestDecision::Join, Some(live)) => (live, audit::Action::RotationJoined),
            (decision, latest) => {
                let late = latest.filter(|_| decision == RequestDecision::Supersede);
                if let Some(late) = &late {
                    rotations::supersede(&unit, late).await?;
                }
                let started = rotations::start(&unit, keyring.id, command.reason, &principal);
                let mut started = started.await?;
                if let Some(late) = late.filter(rotations::Rotation::is_emergency) {
                    started = emergency::take_over(&unit, &late, &started).await?;
                }
                if !command.canary.is_none() {
                    rotations::set_canary(&unit, &started, &command.canary).await?;
                }
                (started, audit::Action::RotationStarted)
            }
        };
        let id = rotation.id;
        if command.urgent && !rotation.urgent {
            rotations::make_urgent(&unit, &rotation).await?;
            // Messages that wait among others are sent once more, as urgent ones.
            batches::resend_now(&unit, &rotation).await?;
        }
        rotations::note_request(&unit, &job.event().id, id).await?;
        unit.send(&RotationDue { rotation: id }).await?;
        let RotationRequested {
            reason,
            urgent,
            canary,
            ..
        } = &command;
        let details =
            json!({ "rotation": id, "reason": reason, "urgent": urgent, "canary": canary });
        let record = Record {
            action,
            subject: keyring.name.as_str(),
            outcome: "done",
            details,
        };
        pen.append(&unit, record).await?;
        unit.commit().await?;
        crash::point("rotator.requested");
        tracing::info!(keyring = %command.keyring, rotation = %id, %action, "rotation requested");
        Ok(())
    }
}

/// Who asked, as noted by our program that sent the event; events from outside are never forwarded as they are.
fn asked_by(job: &Job) -> Principal {
    let principal = job.event().principal.clone();
    principal.unwrap_or_else(|| Worker::Rotator.principal())
}
