//! `rotation.requested`: joins the live rotation, supersedes a late one, or starts one.

use async_trait::async_trait;
use rekey_domain::{Principal, RequestDecision, RotationState, decide_request};
use rekey_messages::{RotationDue, RotationRequested};
use rekey_operations::Services;
use rekey_runtime::{Handler, Job, JobError, crash};
use rekey_store::{audit::Record, keyrings, rotations};
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
        let latest = rotations::of_keyring(unit.db(), keyring.id)
            .await?
            .into_iter()
            .next();
        let decision = decide_request(latest.as_ref().map(|rotation| rotation.state.0));
        let (id, outcome) = match (decision, latest) {
            (RequestDecision::Join, Some(live)) => (live.id, "joined"),
            (RequestDecision::Supersede, Some(late)) => {
                rotations::change_state(
                    &unit,
                    &late,
                    RotationState::Superseded,
                    rotations::Changes::default(),
                )
                .await?;
                (
                    rotations::start(&unit, keyring.id, command.reason, &principal)
                        .await?
                        .id,
                    "started, superseding",
                )
            }
            _ => (
                rotations::start(&unit, keyring.id, command.reason, &principal)
                    .await?
                    .id,
                "started",
            ),
        };
        unit.send(&RotationDue { rotation: id }).await?;
        let details = json!({ "rotation": id, "reason": command.reason });
        pen.append(
            &unit,
            Record {
                action: "rotation.started",
                subject: keyring.name.0.as_str(),
                outcome,
                details,
            },
        )
        .await?;
        unit.commit().await?;
        crash::point("rotator.requested");
        tracing::info!(keyring = %command.keyring, rotation = %id, outcome, "rotation requested");
        Ok(())
    }
}

/// Who asked, as the program wrote that sent the event. Outsiders' events are not sent on but made anew.
fn asked_by(job: &Job) -> Principal {
    let principal = job.event().principal.clone();
    principal.unwrap_or_else(crate::principal)
}
