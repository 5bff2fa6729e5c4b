//! Old bundles are taken away by a person, and only where the newest of a key stands and was proved.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use rekey_destinations::{Destination, Environment, ObjectName, Prune, open_to_prune};
use rekey_domain::{DestinationName, KeyId, Principal};
use rekey_store::{
    audit,
    backups::{
        bundles::{self, Backup},
        deployments, destinations,
        drills::{self, Drill},
        recovery_keys,
    },
    keyrings, keys,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    Action, OperationError, Services,
    access::audited::Audited,
    authorise,
    backups::{
        due::{Newest, newest, reached},
        recognising::{Who, elsewhere},
    },
    recovery::listing::listed,
};

/// What the store does not know is left so long: it may have been stored just now, and be noted in a moment.
const ON_ITS_WAY: Duration = Duration::from_hours(1);

/// What goes, or would go, and what stays although it is old.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pruning {
    /// What goes.
    pub pruned: Vec<Pruned>,
    /// What stays.
    pub left: Vec<Left>,
}

/// A bundle that goes, or would go.
#[derive(Debug, Clone, Serialize)]
pub struct Pruned {
    /// Where.
    pub destination: DestinationName,
    /// Its name there.
    pub bundle: String,
}

/// Old bundles that stay, as they may be the only good ones.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// Where.
    pub destination: DestinationName,
    /// Of what they are: a key, or "the deployment".
    pub of: String,
    /// Why.
    pub why: &'static str,
}

const NOT_PROVED: &str = "its newest bundle is not proved: rekey backups verify";
const NO_RECOVERY: &str = "a RECOVERY key opens older ones and not the newest: have the verifier told of it, recovery_fingerprint in its rekey.toml";
const ELSEWHERE: &str =
    "this process's rekey.toml names another place than the one where bundles are kept";
const UNREACHED: &str = "this process's rekey.toml does not say where it is";
const NOT_THERE: &str =
    "its newest bundle does not stand there as it was stored: rekey backups verify";

/// Which old bundles `prune_backups` would take away, at the destinations that this process reaches.
///
/// # Errors
/// [`OperationError`] of the store, or of a destination that does not say what is there.
pub async fn plan_pruning(
    services: &Services,
    keep: usize,
    principal: &Principal,
) -> Result<Pruning, OperationError> {
    authorise(principal, Action::PruneBackups)?;
    let mut pruning = Pruning::default();
    let elsewhere = elsewhere(services, Who::Looks).await?;
    let reached = reached(services).await?;
    for known in destinations::all(services.store.db()).await? {
        let destination = known.name;
        let why = match () {
            () if elsewhere.contains(&destination) => Some(ELSEWHERE),
            () if !reached.contains(&destination) => Some(UNREACHED),
            () => None,
        };
        if let Some(why) = why {
            let of = "every key".to_owned();
            pruning.left.push(Left {
                destination,
                of,
                why,
            });
            continue;
        }
        if let Some(place) = services.backups.open(&destination)? {
            let at = At {
                services,
                destination: &destination,
                place: &*place,
            };
            at.keys(keep.max(1), &mut pruning).await?;
            at.deployment(&mut pruning).await?;
        }
    }
    Ok(pruning)
}

/// Takes them away: of each key at each destination all but the newest `keep`, the one that was proved last, and any
/// that the store does not know; of the deployment's own all but the newest, and none of the last hour. Nothing of a key
/// goes unless its newest stands there and its last drill proved it.
///
/// # Errors
/// As [`plan_pruning`], and [`OperationError::Destination`] where these credentials may not; what went by then is noted.
pub async fn prune_backups(
    services: &Services,
    keep: usize,
    principal: &Principal,
) -> Result<Pruning, OperationError> {
    let pruning = plan_pruning(services, keep, principal).await?;
    for one in &pruning.pruned {
        if let Ok(name) = one.bundle.parse::<ObjectName>() {
            open(services, &one.destination)?.remove(&name).await?;
        }
        let audited = Audited::begin(services, principal, Action::PruneBackups).await?;
        bundles::forget(&audited.unit, &one.destination, &one.bundle).await?;
        let details = json!({ "destination": one.destination });
        let subject = &one.bundle;
        audited
            .commit(audit::Action::BackupPruned, subject, details)
            .await?;
    }
    Ok(pruning)
}

/// A destination that is looked through.
struct At<'a> {
    services: &'a Services,
    destination: &'a DestinationName,
    place: &'a dyn Destination,
}

impl At<'_> {
    async fn keys(&self, keep: usize, pruning: &mut Pruning) -> Result<(), OperationError> {
        let db = self.services.store.db();
        let drills = drills::all(db).await?;
        let last = newest(drills.clone(), |one: &Drill| {
            (one.key, one.destination.clone())
        });
        for (key, all) in self.bundles_of_keys().await? {
            let proved = proved_last(&drills, key, self.destination);
            let old = all.iter().skip(keep);
            let old = old.filter(|one| proved != Some(&one.name));
            let old: Vec<_> = old.map(|one| self.pruned(&one.name)).collect();
            if old.is_empty() {
                continue;
            }
            match self.why_left(key, &all, &last).await? {
                None => pruning.pruned.extend(old),
                Some(why) => pruning.left.push(self.left(key, why).await?),
            }
        }
        Ok(())
    }

    /// Of each key, the newest first.
    async fn bundles_of_keys(&self) -> Result<HashMap<KeyId, Vec<Backup>>, OperationError> {
        let mut of_keys = HashMap::<KeyId, Vec<Backup>>::new();
        for one in bundles::all(self.services.store.db()).await? {
            if one.destination == *self.destination {
                of_keys.entry(one.key).or_default().push(one);
            }
        }
        Ok(of_keys)
    }

    async fn why_left(
        &self,
        key: KeyId,
        all: &[Backup],
        drills: &Newest<Drill>,
    ) -> Result<Option<&'static str>, OperationError> {
        let newest = &all[0];
        if newest.recovery.is_none() && all.iter().any(|one| one.recovery.is_some()) {
            return Ok(Some(NO_RECOVERY));
        }
        let last = drills.get(&(key, self.destination.clone()));
        let proves =
            |drill: &Drill| drill.problem.is_none() && drill.bundle.as_ref() == Some(&newest.name);
        if !last.is_some_and(proves) {
            return Ok(Some(NOT_PROVED));
        }
        let stands = self.stands(&newest.name).await?;
        Ok((!stands).then_some(NOT_THERE))
    }

    async fn deployment(&self, pruning: &mut Pruning) -> Result<(), OperationError> {
        let db = self.services.store.db();
        let folder = format!("deployments/{}", keyrings::deployment(db).await?);
        // What is listed was stored before the newest is looked up: a newer one is not among it.
        let listed = listed(self.place, &folder).await?;
        let known = deployments::all(db).await?.into_iter();
        let mut known = known.filter(|one| one.destination == *self.destination);
        let Some(known) = known.next() else {
            return Ok(());
        };
        let has_recovery = known
            .stored
            .as_ref()
            .is_some_and(|one| one.recovery.is_some());
        let newest = known.stored.map(|one| one.name);
        let before = SystemTime::from(self.services.store.now().await?) - ON_ITS_WAY;
        let (prune, mut old) = (open(self.services, self.destination)?, Vec::new());
        for name in listed {
            if newest.as_deref() != Some(name.as_str())
                && prune.made_at(&name).await?.is_some_and(|at| at < before)
            {
                old.push(self.pruned(name.as_str()));
            }
        }
        let why = match newest {
            // Whether a RECOVERY key opens the older ones nobody has noted.
            Some(_) if !has_recovery && !recovery_keys::all(db).await?.is_empty() => {
                Some(NO_RECOVERY)
            }
            Some(newest) if known.problem.is_none() => match self.stands(&newest).await? {
                true => None,
                false => Some(NOT_THERE),
            },
            _ => Some(NOT_PROVED),
        };
        match why {
            None => pruning.pruned.extend(old),
            Some(_) if old.is_empty() => {}
            Some(why) => pruning.left.push(Left {
                destination: self.destination.clone(),
                of: "the deployment".to_owned(),
                why,
            }),
        }
        Ok(())
    }

    /// Whether the bundle is there with the bytes that its name was derived from.
    async fn stands(&self, bundle: &str) -> Result<bool, OperationError> {
        let Ok(name) = bundle.parse::<ObjectName>() else {
            return Ok(false);
        };
        let Ok(bytes) = self.place.read(&name).await else {
            return Ok(false);
        };
        let digest = hex::encode(Sha256::digest(&bytes));
        Ok(bundle.ends_with(&format!("/{digest}.json")))
    }

    fn pruned(&self, bundle: &str) -> Pruned {
        Pruned {
            destination: self.destination.clone(),
            bundle: bundle.to_owned(),
        }
    }

    async fn left(&self, key: KeyId, why: &'static str) -> Result<Left, OperationError> {
        let db = self.services.store.db();
        let of = match keys::find_stored(db, key).await? {
            Some(key) => {
                let keyring = keyrings::by_id(db, key.keyring_id).await?;
                key.name(&keyring).to_string()
            }
            None => key.to_string(),
        };
        Ok(Left {
            destination: self.destination.clone(),
            of,
            why,
        })
    }
}

/// The bundle that a drill last brought the key back from.
fn proved_last<'a>(
    drills: &'a [Drill],
    key: KeyId,
    destination: &DestinationName,
) -> Option<&'a String> {
    let mut of_it = drills.iter().filter(|drill| {
        drill.key == key && drill.destination == *destination && drill.problem.is_none()
    });
    of_it.next()?.bundle.as_ref()
}

fn open(
    services: &Services,
    destination: &DestinationName,
) -> Result<Box<dyn Prune>, OperationError> {
    let url = services.backups.url(destination);
    let url = url.expect("only destinations that are reached are pruned");
    Ok(open_to_prune(url, Environment::of_process())?)
}
