//! `batch.ready`: checks the message against the store, does the batch under its lease, ends it.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use rekey_domain::{BatchState, QuarantineReason, RetryPolicy, RotationState, Worker};
use rekey_messages::{BatchReady, RotationDue};
use rekey_operations::{Dispatch, OperationError, Services, or_pause};
use rekey_runtime::{
    Handler, Job, JobError, crash,
    leased::{self, Ended},
};
use rekey_store::{
    StoreError, Unit,
    batches::{self, Batch},
    emptied,
    keyrings::{self, Keyring},
    keys,
    leases::{self, Lease},
    progress::Tally,
    quarantine::{self, NewQuarantine},
    reopened,
    rotations::{self, Rotation},
};
use tokio::sync::Semaphore;

use crate::{
    account::Account,
    again::{self, InQuarantine},
    batch::{self, Outcome},
    counts::count,
    crashes::Crashes,
    limits::{self, Turn},
    names, together, too_much, waiting, work,
};

/// Another process works on the batch; the message is kept for the case that it dies.
const BUSY: Duration = Duration::from_secs(2);
/// The most that a keyring may allow.
const MOST_ATTEMPTS: u32 = 100;
/// Planned batches below which the rotator is asked to plan on.
const LOW_WATER: u64 = 16;

/// Re-encrypts batches.
pub struct ReEncryptBatch {
    pub services: Services,
    /// Lets one batch at a time work on wide rows.
    pub wide: Semaphore,
    pub crashes: Crashes,
    pub in_quarantine: InQuarantine,
}

#[async_trait]
impl Handler for ReEncryptBatch {
    type Command = BatchReady;
    const NAME: &'static str = "re-encryptor.batch";

    async fn handle(&self, command: BatchReady, job: &Job) -> Result<(), JobError> {
        let Some((rotation, batch)) = self.current(&command).await? else {
            return Ok(());
        };
        let Services { store, holder, .. } = &self.services;
        let name = format!("batch/{}", batch.id);
        let done = leased::run((store, holder), &name, async |lease| {
            crash::point("re-encryptor.leased");
            self.work(job, &command, lease).await
        });
        let done = match done.await {
            Ok(None) => return Err(JobError::Snooze(BUSY)),
            Ok(Some(Some(wait))) => return Err(JobError::Snooze(wait)),
            Ok(Some(None)) => Ok(()),
            Err(error) if waiting::is_for(&error) => {
                waiting::note(&self.services, &batch, &error).await?;
                return Err(JobError::Snooze(waiting::TRY_AGAIN));
            }
            Err(error) => Err(error),
        };
        let ended = or_pause(job, &rotation, done).await;
        let Err(JobError::Retry(error)) = ended else {
            return ended;
        };
        let keyring = keyrings::by_id(store.db(), rotation.keyring_id).await?;
        if job.event().attempt < keyring.policy.retry_attempts {
            Err(JobError::Retry(error))
        } else {
            Err(JobError::Discard(error))
        }
    }

    /// The keyring's policy ends it earlier.
    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            attempts: MOST_ATTEMPTS,
            ..RetryPolicy::default()
        }
    }

    async fn exhausted(
        &self,
        command: BatchReady,
        why: &str,
        unit: &Unit,
    ) -> Result<(), StoreError> {
        let batch = batches::by_id(unit.db(), command.batch).await?;
        if batch.state() != BatchState::Dispatched {
            return Ok(());
        }
        let rotation = rotations::lock(unit, batch.rotation_id).await?;
        batches::fail(unit, &rotation, &batch, why).await?;
        count(&Tally::default(), "failed");
        let policy = keyrings::by_id(unit.db(), rotation.keyring_id)
            .await?
            .policy;
        // A canary's pause is audited, and that needs the KMS, which cannot be asked in this unit. The rotator
        // dispatches in that case.
        if rotation.pause_after.is_none() {
            batches::dispatch(
                unit,
                &rotation,
                policy.concurrency_of(rotation.is_emergency()),
            )
            .await?;
        }
        unit.send(&RotationDue {
            rotation: rotation.id,
        })
        .await
    }
}

impl ReEncryptBatch {
    /// The batch, if what the message says of it is still so (rule 2). Otherwise there is nothing
    /// to do: it was done, or belongs to the past.
    async fn current(&self, command: &BatchReady) -> Result<Option<(Rotation, Batch)>, StoreError> {
        let db = self.services.store.db();
        let rotation = rotations::by_id(db, command.rotation).await?;
        let runs = matches!(
            rotation.state,
            RotationState::ReEncrypting | RotationState::Verifying
        );
        // Of one that is over the batches may be gone.
        if !runs || rotation.paused {
            return Ok(None);
        }
        let batch = batches::by_id(db, command.batch).await?;
        let same = rotation.generation == command.generation
            && rotation.target_key_id == Some(command.target)
            && batch.rotation_id == rotation.id
            && batch.pass == rotation.pass;
        let open = batch.state() == BatchState::Dispatched;
        Ok((same && open).then_some((rotation, batch)))
    }

    /// Does the batch, or tells how long to wait for its turn.
    async fn work(
        &self,
        job: &Job,
        command: &BatchReady,
        lease: Lease,
    ) -> Result<Ended<Option<Duration>>, OperationError> {
        // The batch may have changed before we got the lease: paused, or done by its last holder.
        let Some((rotation, batch)) = self.current(command).await? else {
            return Ok(Ended::Held(None));
        };
        let taken = match limits::turn(&self.services, &rotation, &batch).await? {
            Turn::Go(taken) => taken,
            Turn::Wait(wait) => return Ok(Ended::Held(Some(wait))),
        };
        let of = (&rotation, &batch);
        let mut work = work::prepare(&self.services, of, command.target, &self.wide).await?;
        // Only a verifying pass reads and opens everything.
        if rotation.state == RotationState::Verifying {
            let (store, settled) = (&self.services.store, &work.settled);
            work.in_quarantine = self.in_quarantine.of(store, &rotation, settled).await?;
        }
        if self.crashes.had(&batch) {
            work.source.takes_writes().await?;
        }
        let relation = work.query.relation.clone();
        let mut account = Account::open(&self.services, &batch, &lease);
        let moved = async {
            let beside = together::re_encrypt(&mut work, of, &lease).await?;
            work.turn_to(&batch);
            Ok((beside, batch::re_encrypt(work, &mut account).await?))
        };
        let moved = self.crashes.see(&batch, &relation, moved.await);
        if moved.is_err() {
            // What a failed attempt moved counts: the next one finds it moved.
            account.tell().await?;
        }
        let (beside, outcome) = moved?;
        let rows = outcome.tally.rows + beside;
        let ended = self.finish(job, of, &lease, outcome).await?;
        if let Some(taken) = taken {
            taken.correct(&self.services, rows).await;
        }
        Ok(ended)
    }

    /// Ends the batch, and dispatches the rotation's next in the same unit.
    async fn finish(
        &self,
        job: &Job,
        (rotation, batch): (&Rotation, &Batch),
        lease: &Lease,
        outcome: Outcome,
    ) -> Result<Ended<Option<Duration>>, OperationError> {
        let db = self.services.store.db();
        let keyring = keyrings::by_id(db, rotation.keyring_id).await?;
        let principal = Worker::ReEncryptor.principal();
        let dispatch = Dispatch::of(&self.services, rotation, &keyring.policy, &principal).await?;
        let sealed = names::seal(&self.services, outcome.quarantine).await?;
        let Some(unit) = job.begin().await? else {
            // The message took effect before, and only the lease showed that.
            return Ok(Ended::Held(None));
        };
        leases::release(&unit, lease).await?;
        let now = rotations::lock(&unit, rotation.id).await?;
        // A later pass or rotation reads the same rows, and what it says of them counts.
        if now.pass == rotation.pass && now.state != RotationState::Superseded {
            quarantine::refuse_late_names(&unit, &sealed).await?;
            come_back(&unit, &keyring, &sealed).await?;
            for value in sealed {
                quarantine::add(&unit, rotation, value).await?;
            }
            reopened::add(&unit, rotation, &again::stored(&outcome.reopened)).await?;
        }
        if outcome.void {
            batches::void(&unit, &now, batch, outcome.tally).await?;
        } else {
            batches::finish(&unit, &now, batch, outcome.tally).await?;
        }
        if let Some(why) = too_much::of(&unit, &now, &outcome.met).await? {
            unit.commit().await?;
            tracing::error!(rotation = %now.id, why, "the rotation is paused");
            count(&outcome.tally, "done");
            return Ok(Ended::GivenBack(None));
        }
        let left = dispatch.run(&unit, &now).await?;
        let wants_more = !now.planned && left.planned < LOW_WATER;
        if wants_more || left.open() == 0 {
            unit.send(&RotationDue {
                rotation: rotation.id,
            })
            .await?;
        }
        unit.commit().await?;
        crash::point("re-encryptor.done");
        count(&outcome.tally, "done");
        Ok(Ended::GivenBack(None))
    }
}

/// Hands a compromised key out again that was empty, as soon as a value is met under it: it is to be read meanwhile.
async fn come_back(
    unit: &Unit,
    keyring: &Keyring,
    left: &[NewQuarantine],
) -> Result<(), OperationError> {
    let late = left
        .iter()
        .filter(|value| value.reason == QuarantineReason::WrittenAfterCompromise);
    for id in late.filter_map(|value| value.found).collect::<HashSet<_>>() {
        if let Some(key) = keys::find(unit.db(), id).await? {
            emptied::come_back(unit, keyring, &key).await?;
        }
    }
    Ok(())
}
