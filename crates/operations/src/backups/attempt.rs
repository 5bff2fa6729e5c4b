//! One backup after the other is stored or drilled, and the outcome noted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rekey_backups::Bundle;
use rekey_destinations::Destination;
use rekey_domain::{BackupProblem, BackupStep, DestinationName, KeyId, Principal};
use rekey_messages::KeyBackedUp;
use rekey_runtime::crash;
use rekey_store::{
    Unit,
    audit::{self, AuditPen, Record},
    backups::drills::{self, NewDrill},
    columns::{self, Protected},
    keyrings, keys,
    leases::{self, JOB_LEASE, Lease},
};
use serde_json::json;

use crate::{
    OperationError, Services,
    backups::{
        drilling::drill,
        due::Due,
        restoring::{BackupKeys, Restorer},
        sealing::{SealFor, Trouble, Unwrapped, unwrap},
        storing,
    },
};

/// A unit in which only whoever works writes. Without a lease it is a person who does.
pub(super) async fn working_unit(
    services: &Services,
    lease: Option<&Lease>,
) -> Result<Unit, OperationError> {
    let unit = services.store.begin().await?;
    if let Some(lease) = lease {
        leases::hold(&unit, lease, JOB_LEASE).await?;
    }
    Ok(unit)
}

/// Backups of one look, one after the other.
pub(crate) struct Run<'a> {
    pub(super) services: &'a Services,
    pub(super) seal_for: &'a SealFor,
    principal: &'a Principal,
    lease: Option<&'a Lease>,
    columns: Vec<Protected>,
    unwrapped: HashMap<KeyId, Arc<Unwrapped>>,
    backup_keys: BackupKeys,
    said: Vec<(String, Option<BackupProblem>)>,
    /// Before the first AUDIT key there is no log; what was done by then is its first entry.
    is_audited: bool,
    is_waited_for: bool,
    /// Destinations that did not answer in this run. They are not waited for again: what is due elsewhere would wait.
    away: HashSet<DestinationName>,
}

impl<'a> Run<'a> {
    /// `lease` is the verifier's.
    pub(super) fn new(
        services: &'a Services,
        seal_for: &'a SealFor,
        lease: Option<&'a Lease>,
        principal: &'a Principal,
    ) -> Self {
        Self {
            services,
            seal_for,
            principal,
            lease,
            columns: Vec::new(),
            unwrapped: HashMap::new(),
            backup_keys: BackupKeys::new(),
            said: Vec::new(),
            is_audited: true,
            is_waited_for: true,
            away: HashSet::new(),
        }
    }

    /// Whether a destination did not answer in this run.
    pub(super) fn is_away(&self, destination: &DestinationName) -> bool {
        self.away.contains(destination)
    }

    /// Restored keys open values of the application, too.
    pub(super) async fn opening_values(mut self) -> Result<Self, OperationError> {
        self.columns = columns::all(self.services.store.db()).await?;
        Ok(self)
    }

    /// Of keys that nothing waits for, as no rotation is under way; before there is an AUDIT key, of no record either.
    pub(super) fn of_first_keys(mut self, is_audited: bool) -> Self {
        (self.is_audited, self.is_waited_for) = (is_audited, false);
        self
    }

    /// What was wrong; none: the key came back.
    pub(super) async fn one(&mut self, due: &Due) -> Result<Option<BackupProblem>, OperationError> {
        let began = Instant::now();
        let mut bundle = due.bundle.clone();
        let attempted = match self.is_away(&due.destination) {
            true => Err(Trouble::Problem(BackupProblem::OutOfReach)),
            false => self.attempt(due, &mut bundle).await,
        };
        let (problem, opened) = match attempted {
            Ok(opened) => (None, opened),
            Err(Trouble::Problem(problem)) => (Some(problem), 0),
            Err(Trouble::Failed(error)) => return Err(error),
        };
        if problem == Some(BackupProblem::OutOfReach) {
            self.away.insert(due.destination.clone());
        }
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.is_told(problem) {
            self.note(due, bundle, problem, (millis, opened)).await?;
        }
        let (key, destination) = (&due.name, &due.destination);
        match problem {
            None => tracing::info!(%key, %destination, millis, opened, "a backup was proved"),
            Some(problem) => {
                tracing::error!(%key, %destination, why = problem.says(), "a backup is not proved");
            }
        }
        self.said(&format!("{key} at {destination}"), problem);
        Ok(problem)
    }

    async fn attempt(&mut self, due: &Due, bundle: &mut Option<String>) -> Result<u64, Trouble> {
        let unwrapped = self.unwrapped(due.key).await?;
        let destination = self.open(&due.destination)?;
        let at = (&due.destination, &*destination);
        if due.step == BackupStep::Store {
            let pen = self.pen().await?;
            let sealed = self.sealed(&unwrapped).await?;
            let (services, pen) = (self.services, pen.as_ref());
            let stored = storing::store(services, &unwrapped, &sealed, at, pen).await?;
            *bundle = Some(stored);
        }
        let name = bundle.as_deref();
        let name = name.ok_or(Trouble::Problem(BackupProblem::NotStored))?;
        let columns = std::mem::take(&mut self.columns);
        let opened = drill(&mut self.restorer(at), &unwrapped, name, &columns).await;
        self.columns = columns;
        let opened = opened?;
        crash::point("backup.proved");
        Ok(opened)
    }

    async fn sealed(&mut self, unwrapped: &Unwrapped) -> Result<Bundle, Trouble> {
        let under = self.seal_for.backup.filter(|id| *id != unwrapped.key.id);
        let backup = match under {
            Some(id) => Some(self.unwrapped(id).await?),
            None => None,
        };
        self.seal_for.bundle(unwrapped, backup.as_deref())
    }

    /// Restores at a destination.
    pub(super) fn restorer<'b>(
        &'b mut self,
        at: (&'b DestinationName, &'b dyn Destination),
    ) -> Restorer<'b> {
        Restorer {
            services: self.services,
            at,
            backup_keys: &mut self.backup_keys,
        }
    }

    /// None before there is an AUDIT key.
    pub(super) async fn pen(&self) -> Result<Option<AuditPen>, OperationError> {
        Ok(match self.is_audited {
            true => Some(self.services.pen(self.principal).await?),
            false => None,
        })
    }

    /// A unit in which only whoever works writes.
    pub(super) async fn unit(&self) -> Result<Unit, OperationError> {
        working_unit(self.services, self.lease).await
    }

    /// Whether it is written down: what a person's machine cannot reach says nothing of what the verifier reaches.
    pub(super) fn is_told(&self, problem: Option<BackupProblem>) -> bool {
        self.lease.is_some() || problem.is_none_or(BackupProblem::is_a_verdict)
    }

    /// What was not learned, for who asked.
    pub(super) fn not_learned(&self) -> Vec<String> {
        let why = |(what, problem): &(String, Option<BackupProblem>)| {
            let problem = problem.filter(|problem| !problem.is_a_verdict())?;
            Some(format!("{what}: {}", problem.says()))
        };
        self.said.iter().filter_map(why).collect()
    }

    /// For the entry at the end.
    pub(super) fn said(&mut self, what: &str, problem: Option<BackupProblem>) {
        self.said.push((what.to_owned(), problem));
    }

    pub(super) fn open(&self, name: &DestinationName) -> Result<Arc<dyn Destination>, Trouble> {
        let opened = self.services.backups.open(name);
        let opened = opened.map_err(|error| storing::of_destination(&error))?;
        opened.ok_or(Trouble::Problem(BackupProblem::OutOfReach))
    }

    /// One destination after the other asks for the same key.
    pub(super) async fn unwrapped(&mut self, id: KeyId) -> Result<Arc<Unwrapped>, Trouble> {
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
        let unit = self.unit().await?;
        let new = NewDrill {
            key: due.key,
            destination: &due.destination,
            bundle,
            problem,
            millis,
            opened,
        };
        let is_news = drills::note(&unit, new).await?;
        if is_news && problem.is_none() && self.is_waited_for {
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

    /// One entry a run: what was proved, and what was not. Before the first AUDIT key there is no log.
    pub(super) async fn record(&self) -> Result<(), OperationError> {
        let Some(pen) = self.pen().await? else {
            return Ok(());
        };
        let mut proved = Vec::new();
        let mut failed = HashMap::new();
        for (what, problem) in &self.said {
            match problem {
                None => proved.push(what),
                Some(problem) => _ = failed.insert(what, problem),
            }
        }
        let outcome = if failed.is_empty() { "done" } else { "in part" };
        let unit = self.services.store.begin().await?;
        let record = Record {
            action: audit::Action::BackupsDrilled,
            subject: "backups",
            outcome,
            details: json!({ "proved": proved, "failed": failed }),
        };
        pen.append(&unit, record).await?;
        Ok(unit.commit().await?)
    }
}
