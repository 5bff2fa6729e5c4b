//! Checkpoints: the head of the record and the states of keys, signed, and kept where whoever works cannot change them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use rekey_backups::{AuditHead, Checkpoint, SignedCheckpoint, StatesDocument};
use rekey_destinations::{Created, Destination, DestinationError};
use rekey_domain::{BackupProblem, DestinationName, Principal};
use rekey_runtime::crash;
use rekey_store::{
    audit::{self, Record},
    backups::checkpoints::{self, KnownCheckpoint, NewCheckpoint},
    keyrings,
    keys::suspension,
    leases::Lease,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    attempt::working_unit,
    comparing::{Compared, compare},
    due::reached,
    sealing::Trouble,
    states::{States, states},
    storing::{object_name, of_destination},
};
use crate::{Action, OperationError, Services, authorise, certificates::signer};

/// A store is compared with what destinations keep at least so often.
const COMPARED_EVERY: Duration = Duration::from_secs(30);
/// The newest checkpoint is at most so far behind the record.
const BEHIND: TimeDelta = TimeDelta::minutes(5);
const ENTRIES_BEHIND: i64 = 1_000;
/// So many numbers are tried where others have put something under ours.
const TRIED: u64 = 10;

/// Whether the newest checkpoint of each destination that this process reaches knows every key as the store does.
///
/// # Errors
/// [`OperationError`] of the store.
pub async fn checkpoints_are_current(
    services: &Services,
    principal: &Principal,
) -> Result<bool, OperationError> {
    authorise(principal, Action::ReadBackups)?;
    let known = checkpoints::all(services.store.db()).await?;
    for destination in reached(services).await? {
        let states = hex::encode(states(services, &destination).await?.sha256);
        let mut of_it = known.iter().filter(|one| one.destination == destination);
        if !of_it.any(|one| one.states == states) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a verifier remembers between two looks. A new one compares at once.
#[derive(Default)]
pub struct Checkpoints {
    compared_at: HashMap<DestinationName, Instant>,
}

/// What is to be signed.
struct Due<'a> {
    deployment: Uuid,
    head: (i64, Vec<u8>),
    states: &'a States,
    counter: u64,
}

impl Checkpoints {
    /// Compares the store with the checkpoints of each destination, and writes one where one is due. `lease` is the
    /// verifier's.
    ///
    /// # Errors
    /// [`OperationError`] of the store; what is wrong at a destination is noted instead.
    pub async fn look(
        &mut self,
        services: &Services,
        lease: &Lease,
        principal: &Principal,
    ) -> Result<(), OperationError> {
        authorise(principal, Action::BackUp)?;
        let db = services.store.db();
        let Some(head) = audit::head(db).await? else {
            return Ok(());
        };
        if suspension::suspension(db).await?.is_some() {
            return Ok(());
        }
        let known = checkpoints::all(db).await?;
        let deployment = keyrings::deployment(db).await?;
        for destination in reached(services).await? {
            let last = known.iter().find(|one| one.destination == destination);
            let states = states(services, &destination).await?;
            let due = Due {
                deployment,
                head: head.clone(),
                states: &states,
                counter: checkpoints::highest(db).await? + 1,
            };
            match self.at(services, lease, &destination, last, &due).await {
                Ok(()) => {}
                Err(Trouble::Problem(problem)) => {
                    tracing::warn!(%destination, why = problem.says(), "a checkpoint was not written");
                    let unit = working_unit(services, Some(lease)).await?;
                    checkpoints::note_problem(&unit, &destination, problem).await?;
                    unit.commit().await?;
                }
                Err(Trouble::Failed(error)) => return Err(error),
            }
            if suspension::suspension(db).await?.is_some() {
                self.compared_at.clear();
                return Ok(());
            }
        }
        Ok(())
    }

    async fn at(
        &mut self,
        services: &Services,
        lease: &Lease,
        destination: &DestinationName,
        last: Option<&KnownCheckpoint>,
        due: &Due<'_>,
    ) -> Result<(), Trouble> {
        let now = services.store.now().await?;
        let is_due = is_due(last, due, now);
        let compared_at = self.compared_at.get(destination);
        let is_late = compared_at.is_none_or(|at| at.elapsed() >= COMPARED_EVERY);
        if !is_due && !is_late {
            return Ok(());
        }
        let opened = services.backups.open(destination);
        let place = opened.map_err(|error| of_destination(&error))?;
        let place = place.ok_or(Trouble::Problem(BackupProblem::OutOfReach))?;
        let compared = compare(services, (destination, &*place), due.deployment, last).await?;
        let previous = match compared {
            Compared::Another(why, newest) => {
                return Ok(suspend(services, lease, &why, &newest).await?);
            }
            Compared::Same(previous) => previous,
        };
        self.compared_at.insert(destination.clone(), Instant::now());
        let (previous, last) = match previous {
            Some(found) => {
                if last.is_none_or(|last| last.counter != found.claims().counter) {
                    note(services, lease, destination, &found).await?;
                }
                let known = known_of(destination, &found, now);
                (Some(found), Some(known))
            }
            None => (None, None),
        };
        if !self::is_due(last.as_ref(), due, now) {
            return Ok(());
        }
        write(
            services,
            lease,
            (destination, &*place),
            previous.as_ref(),
            due,
        )
        .await
    }
}

fn is_due(last: Option<&KnownCheckpoint>, due: &Due<'_>, now: DateTime<Utc>) -> bool {
    let Some(last) = last else {
        return true;
    };
    let behind = due.head.0 - last.sequence;
    let is_far = behind >= ENTRIES_BEHIND || now - last.written_at >= BEHIND;
    last.states != hex::encode(due.states.sha256) || (behind > 0 && is_far)
}

/// Signs and stores the next.
async fn write(
    services: &Services,
    lease: &Lease,
    (destination, place): (&DestinationName, &dyn Destination),
    previous: Option<&SignedCheckpoint>,
    due: &Due<'_>,
) -> Result<(), Trouble> {
    let unreadable = |_| Trouble::Problem(BackupProblem::NotSealed);
    StatesDocument::read(&due.states.name, &due.states.bytes).map_err(unreadable)?;
    let states = object_name(&due.states.name)?;
    let stored = place.create(&states, &due.states.bytes).await;
    stored.map_err(|error| of_destination(&error))?;
    crash::point("checkpoint.states");
    let (key, pair) = signer(services).await?;
    let after = previous.map(SignedCheckpoint::as_previous);
    let least = after.as_ref().map_or(1, |after| after.counter + 1);
    let first = due.counter.max(least);
    for counter in first..first + TRIED {
        let checkpoint = Checkpoint {
            deployment: due.deployment,
            counter,
            previous: after,
            audit: audit_head(&due.head),
            states: due.states.sha256,
            written_at: services.store.now().await?,
        };
        let signed = checkpoint.sign(key, &pair);
        SignedCheckpoint::read(&signed.name(), signed.as_bytes()).map_err(unreadable)?;
        let name = object_name(&signed.name())?;
        match place.create(&name, signed.as_bytes()).await {
            Ok(Created::Created | Created::AlreadyThere) => {
                crash::point("checkpoint.stored");
                return note(services, lease, destination, &signed).await;
            }
            // Whoever may create there can take our numbers, and not our signature.
            Err(DestinationError::OtherBytes { .. }) => {}
            Err(error) => return Err(of_destination(&error)),
        }
    }
    Err(Trouble::Problem(BackupProblem::InTheWay))
}

async fn note(
    services: &Services,
    lease: &Lease,
    destination: &DestinationName,
    signed: &SignedCheckpoint,
) -> Result<(), Trouble> {
    let checkpoint = signed.claims();
    let unit = working_unit(services, Some(lease)).await?;
    let new = new_row(destination, signed);
    checkpoints::note(&unit, new).await?;
    unit.commit().await?;
    tracing::info!(%destination, counter = checkpoint.counter, entry = checkpoint.audit.sequence, "a checkpoint stands");
    Ok(())
}

/// The row of a checkpoint that stands at a destination.
fn new_row(destination: &DestinationName, signed: &SignedCheckpoint) -> NewCheckpoint {
    let checkpoint = signed.claims();
    NewCheckpoint {
        destination: destination.clone(),
        counter: checkpoint.counter,
        sha256: signed.sha256(),
        sequence: i64::try_from(checkpoint.audit.sequence).unwrap_or(i64::MAX),
        hash: checkpoint.audit.hash.to_vec(),
        states: hex::encode(checkpoint.states),
    }
}

fn known_of(
    destination: &DestinationName,
    found: &SignedCheckpoint,
    now: DateTime<Utc>,
) -> KnownCheckpoint {
    let new = new_row(destination, found);
    KnownCheckpoint {
        destination: new.destination,
        counter: new.counter,
        sha256: new.sha256.to_vec(),
        sequence: new.sequence,
        hash: new.hash,
        states: new.states,
        written_at: found.claims().written_at.min(now),
        problem: None,
    }
}

fn audit_head((sequence, hash): &(i64, Vec<u8>)) -> AuditHead {
    AuditHead {
        sequence: sequence.unsigned_abs(),
        hash: hash.as_slice().try_into().unwrap_or_default(),
    }
}

/// From now on nothing is encrypted but the record itself, until a person has reconciled the store.
async fn suspend(
    services: &Services,
    lease: &Lease,
    why: &str,
    subject: &str,
) -> Result<(), OperationError> {
    tracing::error!(
        why,
        "the store was rolled back or altered; nothing is encrypted until a person has reconciled it"
    );
    let unit = working_unit(services, Some(lease)).await?;
    suspension::suspend(&unit, why).await?;
    unit.commit().await?;
    crash::point("checkpoint.suspended");
    // The record comes after, as it may be what is broken.
    let principal = rekey_domain::Worker::BackupVerifier.principal();
    let pen = services.pen(&principal).await?;
    let noted = services.store.begin().await?;
    let record = Record {
        action: audit::Action::DeploymentSuspended,
        subject,
        outcome: "done",
        details: json!({ "because": why }),
    };
    pen.append(&noted, record).await?;
    Ok(noted.commit().await?)
}
