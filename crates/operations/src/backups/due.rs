//! Which backups there are to be, and which of them are due.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rekey_domain::{
    BackupProblem, BackupStep, Cadence, DestinationName, Kept, KeyId, KeyName, KeyState, Purpose,
    backup_due,
};
use rekey_store::{
    StoreError,
    backups::{
        bundles::{self, Backup},
        destinations,
        drills::{self, Drill},
    },
    keyrings::{self, Keyring},
    keys::{self, Key},
};

use crate::{Services, backups::sealing::SealFor};

/// A key's backup at a destination, due.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) key: KeyId,
    pub(super) name: KeyName,
    pub(super) destination: DestinationName,
    pub(super) step: BackupStep,
    pub(super) bundle: Option<String>,
    pub(super) kept: Kept,
    /// What others wait for comes first.
    pub(super) order: u8,
}

/// What is due of these, and when more is.
pub(super) fn due(
    all: Vec<Due>,
    cadence: Cadence,
    now: DateTime<Utc>,
) -> (Vec<Due>, Option<DateTime<Utc>>) {
    let (mut due, mut next) = (Vec::new(), None::<DateTime<Utc>>);
    for mut one in all {
        one.step = backup_due(&one.kept, cadence, now);
        match one.step {
            BackupStep::Wait(until) => next = Some(next.map_or(until, |next| next.min(until))),
            BackupStep::Store | BackupStep::Drill => due.push(one),
        }
    }
    // Of a large fleet those first that were not looked at for longest.
    due.sort_by_key(|one| (one.order, one.kept.last.map(|last| last.at)));
    (due, next)
}

/// Each key at each destination that this process reaches and the deployment declares, to be drilled.
pub(super) async fn everywhere(
    services: &Services,
    seal_for: &SealFor,
) -> Result<Vec<Due>, StoreError> {
    let db = services.store.db();
    let known = Known::of(services, seal_for).await?;
    let reached = reached(services).await?;
    let mut all = Vec::new();
    for keyring in keyrings::all(db).await? {
        for key in keys::of_keyring(db, keyring.id).await? {
            let under = seal_for.backup_key_of(keyring.purpose, key.id);
            let Some(under) = under.filter(|_| is_backed_up(key.state)) else {
                continue;
            };
            let at = |destination| known.at(&keyring, &key, under, destination);
            all.extend(reached.iter().map(at));
        }
    }
    Ok(all)
}

/// What the store knows of backups.
struct Known {
    bundles: Newest<Backup>,
    drills: Newest<Drill>,
    wanted: HashMap<KeyId, DateTime<Utc>>,
    recovery: Option<String>,
    /// When a bundle at a destination last lacked its BACKUP key.
    lacked_at: HashMap<DestinationName, DateTime<Utc>>,
}

impl Known {
    async fn of(services: &Services, seal_for: &SealFor) -> Result<Self, StoreError> {
        let db = services.store.db();
        let bundles = newest(bundles::all(db).await?, |one: &Backup| {
            (one.key, one.destination.clone())
        });
        let drills = newest(drills::all(db).await?, |one: &Drill| {
            (one.key, one.destination.clone())
        });
        let mut lacked_at = HashMap::<_, DateTime<Utc>>::new();
        for one in drills.values().filter(|one| lacks_its_backup_key(one)) {
            let last = lacked_at.entry(one.destination.clone()).or_default();
            *last = one.last_at.max(*last);
        }
        let recovery = seal_for.recovery.as_ref();
        Ok(Self {
            bundles,
            drills,
            wanted: bundles::wanted(db).await?,
            recovery: recovery.map(|key| key.fingerprint().to_string()),
            lacked_at,
        })
    }

    fn at(&self, keyring: &Keyring, key: &Key, under: KeyId, destination: &DestinationName) -> Due {
        let at = (key.id, destination.clone());
        let bundle = self.bundles.get(&at);
        let last = self.drills.get(&at);
        let last = last.filter(|last| !self.is_to_be_looked_at_now(keyring.purpose, last, bundle));
        let is_for_todays_keys =
            bundle.is_some_and(|one| one.backup_key == under && one.recovery == self.recovery);
        Due {
            key: key.id,
            name: key.name(keyring),
            destination: at.1,
            step: BackupStep::Drill,
            bundle: bundle.map(|one| one.name.clone()),
            kept: Kept {
                stored_at: bundle.map(|one| one.confirmed_at),
                is_for_todays_keys,
                wanted_at: self.wanted.get(&key.id).copied(),
                last: last.map(Drill::as_attempt),
            },
            order: order(keyring.purpose, key.state, last),
        }
    }

    /// A BACKUP key that others lacked since it was last brought back; and what lacked its BACKUP key, once that came back.
    fn is_to_be_looked_at_now(
        &self,
        purpose: Purpose,
        last: &Drill,
        bundle: Option<&Backup>,
    ) -> bool {
        if purpose == Purpose::Backup {
            let lacked_at = self.lacked_at.get(&last.destination);
            return last.problem.is_none() && lacked_at.is_some_and(|at| *at > last.last_at);
        }
        let opener =
            bundle.and_then(|one| self.drills.get(&(one.backup_key, last.destination.clone())));
        let came_back = |drill: &Drill| drill.problem.is_none() && drill.last_at > last.last_at;
        lacks_its_backup_key(last) && opener.is_some_and(came_back)
    }
}

fn lacks_its_backup_key(drill: &Drill) -> bool {
    drill.problem == Some(BackupProblem::NoBackupKey)
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

/// Other bundles are opened with BACKUP keys; a standby is waited for; what was never tried comes before what was.
fn order(purpose: Purpose, state: KeyState, last: Option<&Drill>) -> u8 {
    match (purpose, state, last) {
        (Purpose::Backup, _, last) if last.is_none_or(|last| last.problem.is_some()) => 0,
        (_, KeyState::Pending, _) => 1,
        (_, _, None) => 2,
        _ => 3,
    }
}

/// The destinations that the deployment declares and this process reaches.
pub(super) async fn reached(services: &Services) -> Result<Vec<DestinationName>, StoreError> {
    let reached: Vec<_> = services.backups.names().collect();
    let declared = destinations::all(services.store.db()).await?.into_iter();
    let declared = declared.map(|one| one.name);
    Ok(declared.filter(|name| reached.contains(&name)).collect())
}
