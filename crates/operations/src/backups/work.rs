//! The work of the backup-verifier: what is due is stored or proved, and the outcome noted.

use std::{collections::HashMap, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use rekey_backups::Fingerprint;
use rekey_destinations::Destination;
use rekey_domain::{
    BackupProblem, BackupStep, Cadence, DestinationName, Kept, KeyId, KeyName, KeyRef, KeyState,
    Principal, Purpose, backup_due,
};
use rekey_messages::KeyBackedUp;
use rekey_runtime::crash;
use rekey_store::{
    audit::{self, Record},
    backups::{
        bundles::{self, Backup},
        destinations,
        drills::{self, Drill, NewDrill},
    },
    columns::{self, Protected},
    keyrings::{self, Keyring},
    keys::{self, Key},
    leases::{self, JOB_LEASE, Lease},
};
use serde_json::json;

use crate::{
    Action, OperationError, Services, authorise,
    backups::{
        drilling::drill,
        restoring::{BackupKeys, Restorer},
        sealing::{SealFor, Trouble, Unwrapped, unwrap},
        storing,
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
}

/// A key's backup at a destination, due.
struct Due {
    key: KeyId,
    name: KeyName,
    destination: DestinationName,
    step: BackupStep,
    bundle: Option<String>,
    kept: Kept,
    /// What others wait for comes first.
    order: u8,
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
    let seal_for = match SealFor::today(services).await {
        Ok(seal_for) => seal_for,
        Err(Trouble::Failed(error)) => return Err(error),
        Err(Trouble::Problem(problem)) => {
            tracing::warn!(why = problem.says(), "nothing can be backed up now");
            return Ok(looked);
        }
    };
    let all = everywhere(services, &seal_for).await?;
    let (mut due, next) = due(all, cadence, services.store.now().await?);
    looked.next = next;
    due.truncate(AT_ONCE);
    if due.is_empty() {
        return Ok(looked);
    }
    looked.next = Some(services.store.now().await?);
    let mut run = Run {
        services,
        principal,
        lease,
        seal_for: &seal_for,
        columns: columns::all(services.store.db()).await?,
        unwrapped: HashMap::new(),
        backup_keys: BackupKeys::new(),
        said: Vec::new(),
        is_audited: true,
    };
    for one in &due {
        let done = run.one(one).await?;
        match done {
            None => looked.proved += 1,
            Some(_) => looked.failed += 1,
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
    let seal_for = SealFor::today(services)
        .await
        .map_err(Trouble::into_error)?;
    let mut all = everywhere(services, &seal_for).await?;
    all.retain(|one| only.is_none_or(|only| one.key == only));
    let mut run = Run {
        services,
        principal,
        lease: None,
        seal_for: &seal_for,
        columns: columns::all(db).await?,
        unwrapped: HashMap::new(),
        backup_keys: BackupKeys::new(),
        said: Vec::new(),
        is_audited: true,
    };
    let mut looked = Looked::default();
    // What is not there is a finding, and not made up for here; nor does anything wait after a failure.
    for one in &all {
        match run.one(one).await? {
            None => looked.proved += 1,
            Some(_) => looked.failed += 1,
        }
    }
    run.record().await?;
    Ok(looked)
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
    let seal_for = match SealFor::today(services).await {
        Ok(seal_for) => seal_for,
        Err(Trouble::Failed(error)) => return Err(error),
        Err(Trouble::Problem(problem)) => return Err(refused(problem.says().to_owned())),
    };
    let mut run = Run {
        services,
        principal,
        lease: None,
        seal_for: &seal_for,
        columns: Vec::new(),
        unwrapped: HashMap::new(),
        backup_keys: BackupKeys::new(),
        said: Vec::new(),
        is_audited,
    };
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
    if is_audited {
        run.record().await?;
    }
    match is_proved {
        true => Ok(()),
        false if why.is_empty() => Err(refused("there is no destination".to_owned())),
        false => Err(refused(why.join("; "))),
    }
}

/// What is due of these, and when more is.
fn due(all: Vec<Due>, cadence: Cadence, now: DateTime<Utc>) -> (Vec<Due>, Option<DateTime<Utc>>) {
    let (mut due, mut next) = (Vec::new(), None::<DateTime<Utc>>);
    for mut one in all {
        one.step = backup_due(&one.kept, cadence, now);
        match one.step {
            BackupStep::Wait(until) => next = Some(next.map_or(until, |next| next.min(until))),
            BackupStep::Store | BackupStep::Drill => due.push(one),
        }
    }
    due.sort_by_key(|one| one.order);
    (due, next)
}

/// Each key at each destination that this process reaches and the deployment declares, to be drilled.
async fn everywhere(services: &Services, seal_for: &SealFor) -> Result<Vec<Due>, OperationError> {
    let db = services.store.db();
    let bundles = newest(bundles::all(db).await?, |one: &Backup| {
        (one.key, one.destination.clone())
    });
    let drills = newest(drills::all(db).await?, |one: &Drill| {
        (one.key, one.destination.clone())
    });
    let wanted = bundles::wanted(db).await?;
    let recovery = seal_for.recovery.as_ref().map(|key| key.fingerprint());
    let declared = destinations::all(db).await?.into_iter().map(|one| one.name);
    let reached: Vec<_> = services.backups.names().collect();
    let reached: Vec<_> = declared.filter(|name| reached.contains(&name)).collect();
    let mut all = Vec::new();
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            if !is_backed_up(key.state) {
                continue;
            }
            let Some(under) = seal_for.backup_key_of(keyring.purpose, key.id) else {
                continue;
            };
            for destination in &reached {
                let at = (key.id, destination.clone());
                let bundle = bundles.get(&at);
                let last = drills.get(&at);
                let is_for_todays_keys =
                    bundle.is_some_and(|one| is_for(one, under, recovery.as_ref()));
                all.push(Due {
                    key: key.id,
                    name: key.name(&keyring),
                    destination: destination.clone(),
                    step: BackupStep::Drill,
                    bundle: bundle.map(|one| one.name.clone()),
                    kept: Kept {
                        stored_at: bundle.map(|one| one.confirmed_at),
                        is_for_todays_keys,
                        wanted_at: wanted.get(&key.id).copied(),
                        last: last.map(Drill::as_attempt),
                    },
                    order: order(keyring.purpose, key.state, last),
                });
            }
        }
    }
    Ok(all)
}

/// One for each key at each destination.
pub(crate) type Newest<T> = HashMap<(KeyId, DestinationName), T>;

/// The first of each, of a list that has the newest first.
pub(crate) fn newest<T>(all: Vec<T>, key: impl Fn(&T) -> (KeyId, DestinationName)) -> Newest<T> {
    let mut newest = HashMap::new();
    for one in all {
        newest.entry(key(&one)).or_insert(one);
    }
    newest
}

/// A key that is being destroyed gets no new backup: it is to go.
pub(crate) fn is_backed_up(state: KeyState) -> bool {
    !matches!(state, KeyState::Destroying | KeyState::Destroyed)
}

fn is_for(bundle: &Backup, under: KeyId, recovery: Option<&Fingerprint>) -> bool {
    let to = recovery.map(ToString::to_string);
    bundle.backup_key == under && bundle.recovery == to
}

/// Other bundles are opened with BACKUP keys; a standby is waited for; what was never tried comes before what was.
fn order(purpose: Purpose, state: KeyState, last: Option<&Drill>) -> u8 {
    match (purpose, state, last) {
        (Purpose::Backup, _, None) => 0,
        (_, KeyState::Pending, _) => 1,
        (_, _, None) => 2,
        _ => 3,
    }
}

struct Run<'a> {
    services: &'a Services,
    principal: &'a Principal,
    lease: Option<&'a Lease>,
    seal_for: &'a SealFor,
    columns: Vec<Protected>,
    unwrapped: HashMap<KeyId, Arc<Unwrapped>>,
    backup_keys: BackupKeys,
    said: Vec<(KeyName, DestinationName, Option<BackupProblem>)>,
    /// Before the first AUDIT key there is no log; what was done by then is its first entry.
    is_audited: bool,
}

impl Run<'_> {
    /// What was wrong; none: the key came back.
    async fn one(&mut self, due: &Due) -> Result<Option<BackupProblem>, OperationError> {
        let began = Instant::now();
        let mut bundle = due.bundle.clone();
        let (problem, opened) = match self.attempt(due, &mut bundle).await {
            Ok(opened) => (None, opened),
            Err(Trouble::Problem(problem)) => (Some(problem), 0),
            Err(Trouble::Failed(error)) => return Err(error),
        };
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.note(due, bundle, problem, (millis, opened)).await?;
        let (key, destination) = (&due.name, &due.destination);
        match problem {
            None => tracing::info!(%key, %destination, millis, opened, "a backup was proved"),
            Some(problem) => {
                tracing::error!(%key, %destination, why = problem.says(), "a backup is not proved");
            }
        }
        let said = (due.name.clone(), due.destination.clone(), problem);
        self.said.push(said);
        Ok(problem)
    }

    async fn attempt(&mut self, due: &Due, bundle: &mut Option<String>) -> Result<u64, Trouble> {
        let unwrapped = self.unwrapped(due.key).await?;
        let destination = self.open(&due.destination)?;
        let at = (&due.destination, &*destination);
        if due.step == BackupStep::Store {
            let (services, seal_for) = (self.services, self.seal_for);
            let pen = match self.is_audited {
                true => Some(services.pen(self.principal).await?),
                false => None,
            };
            let stored = storing::store(services, seal_for, &unwrapped, at, pen.as_ref()).await?;
            *bundle = Some(stored);
        }
        let name = bundle.as_deref();
        let name = name.ok_or(Trouble::Problem(BackupProblem::Missing))?;
        let mut restorer = Restorer {
            services: self.services,
            at,
            backup_keys: &mut self.backup_keys,
        };
        let opened = drill(&mut restorer, &unwrapped, name, &self.columns).await?;
        crash::point("backup.proved");
        Ok(opened)
    }

    fn open(&self, name: &DestinationName) -> Result<Arc<dyn Destination>, Trouble> {
        let opened = self.services.backups.open(name);
        let opened = opened.map_err(|error| storing::of_destination(&error))?;
        opened.ok_or(Trouble::Problem(BackupProblem::OutOfReach))
    }

    /// One destination after the other asks for the same key.
    async fn unwrapped(&mut self, id: KeyId) -> Result<Arc<Unwrapped>, Trouble> {
        if let Some(known) = self.unwrapped.get(&id) {
            return Ok(known.clone());
        }
        let db = self.services.store.db();
        let key = keys::find_stored(db, id).await?;
        let key = key.ok_or(Trouble::Problem(BackupProblem::NotUnwrapped))?;
        let keyring = keyrings::by_id(db, key.keyring_id).await?;
        let unwrapped = unwrap(self.services, self.seal_for.deployment, keyring, key).await?;
        let unwrapped = Arc::new(unwrapped);
        self.unwrapped.insert(id, unwrapped.clone());
        Ok(unwrapped)
    }

    async fn note(
        &self,
        due: &Due,
        bundle: Option<String>,
        problem: Option<BackupProblem>,
        (millis, opened): (u64, u64),
    ) -> Result<(), OperationError> {
        let unit = self.services.store.begin().await?;
        if let Some(lease) = self.lease {
            leases::hold(&unit, lease, JOB_LEASE).await?;
        }
        let new = NewDrill {
            key: due.key,
            destination: &due.destination,
            bundle,
            problem,
            millis,
            opened,
        };
        let is_news = drills::note(&unit, new).await?;
        if is_news && problem.is_none() {
            // A rotation may wait for this proof.
            unit.send(&KeyBackedUp {
                key: due.name.clone(),
                key_id: due.key,
                destination: due.destination.clone(),
            })
            .await?;
        }
        unit.commit().await?;
        crash::point("backup.noted");
        Ok(())
    }

    /// One entry a run: who proved what, and what was not proved.
    async fn record(&self) -> Result<(), OperationError> {
        let name = |(key, at, _): &(KeyName, DestinationName, _)| format!("{key} at {at}");
        let proved: Vec<_> = self
            .said
            .iter()
            .filter(|(.., problem)| problem.is_none())
            .map(name)
            .collect();
        let failed: HashMap<_, _> = self
            .said
            .iter()
            .filter_map(|said| Some((name(said), said.2?)))
            .collect();
        let outcome = if failed.is_empty() { "done" } else { "in part" };
        let details = json!({ "proved": proved, "failed": failed });
        let pen = self.services.pen(self.principal).await?;
        let unit = self.services.store.begin().await?;
        let record = Record {
            action: audit::Action::BackupsDrilled,
            subject: "backups",
            outcome,
            details,
        };
        pen.append(&unit, record).await?;
        Ok(unit.commit().await?)
    }
}
