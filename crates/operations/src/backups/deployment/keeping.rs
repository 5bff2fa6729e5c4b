//! The deployment's bundle is stored where it changed, drilled as keys are, and the outcome noted.

use std::time::Instant;

use rekey_backups::{BackupKey, DeploymentBundle};
use rekey_domain::{
    Attempt, BackupProblem, BackupStep, Cadence, DestinationName, Kept, backup_due,
};
use rekey_envelope::encode_base64;
use rekey_runtime::crash;
use rekey_store::{
    StoreError,
    backups::{
        bundles,
        deployments::{self, DeploymentBackup, NewDeploymentBackup},
    },
};
use sha2::{Digest, Sha256};

use super::contents::Contents;
use crate::{
    OperationError, Services,
    backups::{
        attempt::Run,
        due::reached,
        sealing::{SealFor, Trouble},
        storing::{object_name, of_destination},
    },
};

/// The bundle at a destination, due.
pub(crate) struct DueDeployment {
    pub(crate) destination: DestinationName,
    step: BackupStep,
    known: Option<DeploymentBackup>,
    kept: Kept,
    contents: Vec<u8>,
}

/// Those that are due now.
pub(crate) async fn due(
    services: &Services,
    seal_for: &SealFor,
    cadence: Cadence,
) -> Result<Vec<DueDeployment>, OperationError> {
    let now = services.store.now().await?;
    let mut due = everywhere(services, seal_for).await?;
    for one in &mut due {
        one.step = backup_due(&one.kept, cadence, now);
    }
    due.retain(|one| matches!(one.step, BackupStep::Store | BackupStep::Drill));
    Ok(due)
}

/// The bundle at every destination that this process reaches, to be drilled. None before there is a BACKUP key.
pub(crate) async fn everywhere(
    services: &Services,
    seal_for: &SealFor,
) -> Result<Vec<DueDeployment>, StoreError> {
    let db = services.store.db();
    let Some(under) = seal_for.backup else {
        return Ok(Vec::new());
    };
    let contents = Contents::of(db).await?.to_bytes();
    let digest = digest(&contents);
    let recovery = seal_for.recovery.as_ref();
    let recovery = recovery.map(|key| key.fingerprint().to_string());
    let known = deployments::all(db).await?;
    let wanted = bundles::wanted(db).await?;
    let at = |destination: DestinationName| {
        let known = known.iter().find(|one| one.destination == destination);
        let stored = known.and_then(|one| one.stored.as_ref());
        let is_todays = stored.is_some_and(|one| {
            one.contents == digest && one.backup_key == under && one.recovery == recovery
        });
        DueDeployment {
            destination,
            step: BackupStep::Drill,
            known: known.cloned(),
            kept: Kept {
                stored_at: stored.map(|one| one.confirmed_at),
                is_for_todays_keys: is_todays,
                // Whoever wants keys backed up wants what makes sense of them, too.
                wanted_at: wanted.values().max().copied(),
                last: known.map(|one| Attempt {
                    at: one.tried_at,
                    problem: one.problem,
                    times: one.times,
                }),
            },
            contents: contents.clone(),
        }
    };
    Ok(reached(services).await?.into_iter().map(at).collect())
}

/// Stores or drills it. What was wrong; none: it came back.
pub(crate) async fn keep(
    run: &mut Run<'_>,
    due: &DueDeployment,
) -> Result<Option<BackupProblem>, OperationError> {
    let began = Instant::now();
    let problem = match attempt(run, due).await {
        Ok(()) => None,
        Err(Trouble::Problem(problem)) => Some(problem),
        Err(Trouble::Failed(error)) => return Err(error),
    };
    if run.is_told(problem) {
        let unit = run.unit().await?;
        deployments::note_attempt(&unit, &due.destination, problem).await?;
        unit.commit().await?;
        crash::point("backup.noted");
    }
    let (destination, millis) = (&due.destination, began.elapsed().as_millis());
    match problem {
        None => tracing::info!(%destination, %millis, "the deployment's backup was proved"),
        Some(problem) => {
            tracing::error!(%destination, why = problem.says(), "the deployment's backup is not proved");
        }
    }
    run.said(&format!("deployment at {destination}"), problem);
    Ok(problem)
}

async fn attempt(run: &mut Run<'_>, due: &DueDeployment) -> Result<(), Trouble> {
    let name = match due.step {
        BackupStep::Store => store(run, due).await?,
        BackupStep::Drill | BackupStep::Wait(_) => {
            let stored = due.known.as_ref().and_then(|one| one.stored.as_ref());
            let stored = stored.ok_or(Trouble::Problem(BackupProblem::NotStored))?;
            stored.name.clone()
        }
    };
    let destination = run.open(&due.destination)?;
    let deployment = run.seal_for.deployment;
    let mut restorer = run.restorer((&due.destination, &*destination));
    let restored = restorer.restore_deployment(deployment, &name).await?;
    let read = serde_json::from_slice::<Contents>(&restored);
    match read.is_ok_and(|contents| contents.deployment == deployment) {
        true => Ok(()),
        false => Err(Trouble::Problem(BackupProblem::OtherKey)),
    }
}

async fn store(run: &mut Run<'_>, due: &DueDeployment) -> Result<String, Trouble> {
    let none = Trouble::Problem(BackupProblem::NoBackupKey);
    let under = run.unwrapped(run.seal_for.backup.ok_or(none)?).await?;
    let key = BackupKey {
        id: under.key.id,
        material: &under.material,
    };
    let recovery = run.seal_for.recovery.as_ref();
    let sealed = DeploymentBundle::seal(run.seal_for.deployment, &due.contents, key, recovery);
    let bundle = sealed.map_err(|error| {
        tracing::error!(%error, "the deployment's bundle was not sealed");
        Trouble::Problem(BackupProblem::NotSealed)
    })?;
    crash::point("backup.sealed");
    let name = bundle.name();
    let destination = run.open(&due.destination)?;
    let made = destination
        .create(&object_name(&name)?, bundle.as_bytes())
        .await;
    made.map_err(|error| of_destination(&error))?;
    crash::point("backup.stored");
    let new = NewDeploymentBackup {
        name: name.clone(),
        contents: digest(&due.contents),
        backup_key: bundle.backup_key(),
        recovery: bundle.recovery_key().map(|to| to.to_string()),
    };
    let unit = run.unit().await?;
    deployments::note_stored(&unit, &due.destination, new).await?;
    unit.commit().await?;
    crash::point("backup.listed");
    Ok(name)
}

fn digest(contents: &[u8]) -> String {
    encode_base64(&Sha256::digest(contents))
}
