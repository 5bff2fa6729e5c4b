//! The work of the backup-verifier: what is due is stored or proved, and the outcome noted.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rekey_domain::{BackupProblem, BackupStep, Cadence, DestinationName, Kept, KeyRef, Principal};
use rekey_store::{backups::destinations, keyrings::Keyring, keys::Key, leases::Lease};

use crate::{
    Action, OperationError, Services, authorise,
    backups::{
        attempt::Run,
        deployment::keeping,
        due::{Due, due, everywhere, reached},
        erasing::try_to_erase,
        recognising::{Who, elsewhere},
        sealing::SealFor,
    },
    keys::named::named,
};

/// So many are done before what is due is looked at anew: a standby does not wait for a large fleet.
const AT_ONCE: usize = 16;

/// What a look did, and when the next is worth it.
#[derive(Debug, Default)]
pub struct Looked {
    /// Backups that were proved.
    pub proved: u64,
    /// Backups that were not.
    pub failed: u64,
    /// When something is due next; none: nothing is known to be.
    pub next: Option<DateTime<Utc>>,
    /// What could not be looked at from here, and why; that is not written down.
    pub not_learned: Vec<String>,
}

impl Looked {
    fn count(&mut self, problem: Option<BackupProblem>) {
        match problem {
            None => self.proved += 1,
            Some(_) => self.failed += 1,
        }
    }
}

/// Does what is due now, some of it. `lease` is the verifier's.
///
/// # Errors
/// [`OperationError`] of the store; what is wrong with a backup is noted instead.
pub async fn back_up_and_drill(
    services: &Services,
    cadence: Cadence,
    lease: Option<&Lease>,
    principal: &Principal,
) -> Result<Looked, OperationError> {
    authorise(principal, Action::BackUp)?;
    let mut looked = Looked::default();
    elsewhere(services, Who::Stores(lease)).await?;
    let seal_for = SealFor::today(services).await?;
    let all = everywhere(services, &seal_for).await?;
    let (mut due, next) = due(all, cadence, services.store.now().await?);
    looked.next = next;
    due.truncate(AT_ONCE);
    let deployment = keeping::due(services, &seal_for, cadence).await?;
    if due.is_empty() && deployment.is_empty() {
        try_to_erase(services, lease).await?;
        return Ok(looked);
    }
    looked.next = Some(services.store.now().await?);
    let run = Run::new(services, &seal_for, lease, principal);
    let mut run = run.opening_values().await?;
    for one in &due {
        looked.count(run.one(one).await?);
    }
    for one in &deployment {
        if !run.is_away(&one.destination) {
            looked.count(keeping::keep(&mut run, one).await?);
        }
    }
    run.record().await?;
    Ok(looked)
}

/// Proves the backups of a key, or of every key, now and here.
///
/// # Errors
/// [`OperationError`] of the store; what is wrong with a backup is counted instead.
pub async fn verify_backups(
    services: &Services,
    key: Option<&KeyRef>,
    principal: &Principal,
) -> Result<Looked, OperationError> {
    authorise(principal, Action::BackUp)?;
    let db = services.store.db();
    let only = match key {
        Some(key) => Some(named(db, key).await?.0.id),
        None => None,
    };
    let seal_for = SealFor::today(services).await?;
    let elsewhere = elsewhere(services, Who::Looks).await?;
    let mut all = everywhere(services, &seal_for).await?;
    all.retain(|one| only.is_none_or(|only| one.key == only));
    all.retain(|one| !elsewhere.contains(&one.destination));
    let run = Run::new(services, &seal_for, None, principal);
    let mut run = run.opening_values().await?;
    let mut looked = Looked {
        not_learned: not_from_here(services, &elsewhere).await?,
        ..Looked::default()
    };
    // What is not there is a finding, and not made up for here; nor does anything wait after a failure.
    for one in &all {
        looked.count(run.one(one).await?);
    }
    if only.is_none() {
        for one in &keeping::everywhere(services, &seal_for).await? {
            if !elsewhere.contains(&one.destination) {
                looked.count(keeping::keep(&mut run, one).await?);
            }
        }
    }
    run.record().await?;
    looked.not_learned.extend(run.not_learned());
    Ok(looked)
}

/// Destinations that this process does not look at, each with why.
async fn not_from_here(
    services: &Services,
    elsewhere: &HashSet<DestinationName>,
) -> Result<Vec<String>, OperationError> {
    let reached = reached(services).await?;
    let all = destinations::all(services.store.db()).await?;
    let why = |one: destinations::Destination| {
        let name = one.name;
        if elsewhere.contains(&name) {
            return Some(format!(
                "destination {name}: this process's rekey.toml names another place than the one where bundles are kept"
            ));
        }
        (!reached.contains(&name)).then(|| {
            format!("destination {name}: this process's rekey.toml does not say where it is")
        })
    };
    if all.is_empty() {
        return Ok(vec!["there is no destination".to_owned()]);
    }
    Ok(all.into_iter().filter_map(why).collect())
}

/// Backs a new key up and proves it, at every destination that this process reaches, before it is used at all. `audited`
/// is false before there is an AUDIT key.
///
/// # Errors
/// [`OperationError::Refused`] if it was proved nowhere.
pub(crate) async fn prove_new(
    services: &Services,
    keyring: &Keyring,
    key: &Key,
    principal: &Principal,
    is_audited: bool,
) -> Result<(), OperationError> {
    let name = key.name(keyring);
    let refused = |why: String| {
        OperationError::Refused(format!(
            "key {name} must be backed up and proved before it encrypts, and was not: {why}"
        ))
    };
    elsewhere(services, Who::Stores(None)).await?;
    let seal_for = SealFor::today(services).await?;
    let run = Run::new(services, &seal_for, None, principal);
    let mut run = run.of_first_keys(is_audited);
    let (mut is_proved, mut why) = (false, Vec::new());
    for destination in destinations::all(services.store.db()).await? {
        let due = Due {
            key: key.id,
            name: name.clone(),
            destination: destination.name.clone(),
            step: BackupStep::Store,
            bundle: None,
            kept: Kept::default(),
            order: 0,
        };
        match run.one(&due).await? {
            None => is_proved = true,
            Some(problem) => why.push(format!("at {}: {}", destination.name, problem.says())),
        }
    }
    run.record().await?;
    match is_proved {
        true => Ok(()),
        false if why.is_empty() => Err(refused("there is no destination".to_owned())),
        false => Err(refused(why.join("; "))),
    }
}
