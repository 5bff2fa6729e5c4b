//! `rotation.due`: asks the rules for the rotation's next step and carries it out, one step a message.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Step, WRITE_WITHIN, next_step};
use rekey_messages::RotationDue;
use rekey_operations::{OperationError, Services, or_pause};
use rekey_runtime::{
    Handler, Job, JobError,
    leased::{self, Ended},
};
use rekey_store::{keyrings, keys, leases::Lease, rotations};
use uuid::Uuid;

use crate::{advance::Advance, canary, facts, plan, steps, verify, waiting};

/// Another rotator is at it; it will have finished its step by then.
const BUSY: Duration = Duration::from_millis(500);

/// Moves rotations on.
pub struct AdvanceRotation {
    pub services: Services,
}

#[async_trait]
impl Handler for AdvanceRotation {
    type Command = RotationDue;
    const NAME: &'static str = "rotator.advance";

    async fn handle(&self, command: RotationDue, job: &Job) -> Result<(), JobError> {
        let Services { store, holder, .. } = &self.services;
        let seen = rotations::by_id(store.db(), command.rotation).await?;
        let name = format!("rotation/{}", seen.id);
        let stepped = leased::run((store, holder), &name, async |lease| {
            self.step(seen.id, job, lease).await.map(Ended::Held)
        });
        match stepped.await {
            Ok(None) => Err(JobError::Snooze(BUSY)),
            done => or_pause(job, &seen, done.map(drop)).await,
        }
    }
}

impl AdvanceRotation {
    async fn step(&self, id: Uuid, job: &Job, lease: Lease) -> Result<(), OperationError> {
        let services = &self.services;
        let db = services.store.db();
        let rotation = rotations::by_id(db, id).await?;
        let keyring = keyrings::by_id(db, rotation.keyring_id).await?;
        let leases_end = keys::leases::last_ends(&services.store, keyring.id).await?;
        // A batch may still write, for this long, what it sealed under a reported key.
        let leases_end = match rotation.is_emergency() {
            true => leases_end.map(|end| end + WRITE_WITHIN),
            false => leases_end,
        };
        let facts = facts::gather(db, &rotation, leases_end).await?;
        let step = next_step(
            &facts::rule(&rotation),
            &facts,
            &keyring.purpose.timing(&keyring.policy),
            services.store.now().await?,
        );
        tracing::debug!(rotation = %rotation.id, state = %rotation.state, ?step, "next step");
        let advance = Advance {
            services,
            job,
            rotation,
            keyring,
            leases_end,
            lease,
        };
        let waited = advance.rotation.waiting_because.is_some();
        let done = match step {
            Step::Await => steps::wait(&advance, None).await,
            Step::WaitUntil(due) => steps::wait(&advance, Some(due)).await,
            Step::OrderStandby => steps::order_standby(&advance).await,
            Step::Distribute { until } => steps::distribute(&advance, until).await,
            Step::Restart => steps::restart(&advance).await,
            Step::Switch => steps::switch(&advance).await,
            Step::Plan => plan::plan(&advance).await,
            Step::EndCanary => canary::end(&advance).await,
            Step::BeginGrace { until } => steps::begin_grace(&advance, until).await,
            Step::BeginVerifying => verify::begin(&advance).await,
            Step::TakeCensus => verify::take_census(&advance).await,
            Step::SweepAgain { at } => verify::sweep_again(&advance, at).await,
            Step::Complete => verify::complete(&advance).await,
            Step::Fail => steps::fail(&advance).await,
        };
        match done {
            Err(error) if waiting::is_for(&error) => waiting::note(&advance, &error).await,
            Ok(()) if waited => Ok(rotations::waits_no_more(&services.store, id).await?),
            done => done,
        }
    }
}
