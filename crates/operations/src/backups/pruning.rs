//! Old bundles are taken away by a person: never the newest of a key, never the one that was proved last.

use rekey_destinations::{Environment, Prune, open_to_prune};
use rekey_domain::{DestinationName, KeyId, Principal};
use rekey_store::{
    audit,
    backups::{
        bundles::{self, Backup},
        deployments, drills,
    },
    keyrings,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, OperationError, Services,
    access::audited::Audited,
    authorise,
    backups::{due::reached, storing::object_name},
};

/// A bundle that goes, or would go.
#[derive(Debug, Clone, Serialize)]
pub struct Pruned {
    /// Where.
    pub destination: DestinationName,
    /// Its name there.
    pub bundle: String,
}

/// Which old bundles `prune_backups` would take away, at the destinations that this process reaches.
///
/// # Errors
/// [`OperationError`] of the store, or of a destination that does not list what is there.
pub async fn plan_pruning(
    services: &Services,
    keep: usize,
    principal: &Principal,
) -> Result<Vec<Pruned>, OperationError> {
    authorise(principal, Action::PruneBackups)?;
    let reached = reached(services).await?;
    let mut old = of_keys(services, keep).await?;
    old.retain(|one| reached.contains(&one.destination));
    for destination in &reached {
        old.extend(of_deployment(services, destination).await?);
    }
    Ok(old)
}

/// Takes them away: of each key at each destination all but the newest `keep`, the one that was proved last, and any
/// that the store does not know. Of the deployment's own bundles the newest stays, once it is proved.
///
/// # Errors
/// As [`plan_pruning`], and [`OperationError::Destination`] where these credentials may not; what went by then is noted.
pub async fn prune_backups(
    services: &Services,
    keep: usize,
    principal: &Principal,
) -> Result<Vec<Pruned>, OperationError> {
    let old = plan_pruning(services, keep, principal).await?;
    for one in &old {
        let prune = open(services, &one.destination)?;
        prune.remove(&object_name(&one.bundle)).await?;
        let audited = Audited::begin(services, principal, Action::PruneBackups).await?;
        bundles::forget(&audited.unit, &one.destination, &one.bundle).await?;
        let details = json!({ "destination": one.destination });
        let subject = &one.bundle;
        audited
            .commit(audit::Action::BackupPruned, subject, details)
            .await?;
    }
    Ok(old)
}

async fn of_keys(services: &Services, keep: usize) -> Result<Vec<Pruned>, OperationError> {
    let db = services.store.db();
    let (bundles, drills) = (bundles::all(db).await?, drills::all(db).await?);
    // Both lists have the newest first.
    let proved_last = |one: &Backup| {
        let of_it = |drill: &&drills::Drill| {
            drill.key == one.key && drill.destination == one.destination && drill.problem.is_none()
        };
        drills
            .iter()
            .find(of_it)
            .and_then(|drill| drill.bundle.clone())
    };
    let mut seen = std::collections::HashMap::<(KeyId, DestinationName), usize>::new();
    let mut old = Vec::new();
    for one in &bundles {
        let newer = seen.entry((one.key, one.destination.clone())).or_default();
        *newer += 1;
        if *newer > keep.max(1) && proved_last(one).as_ref() != Some(&one.name) {
            old.push(Pruned {
                destination: one.destination.clone(),
                bundle: one.name.clone(),
            });
        }
    }
    Ok(old)
}

async fn of_deployment(
    services: &Services,
    destination: &DestinationName,
) -> Result<Vec<Pruned>, OperationError> {
    let db = services.store.db();
    let known = deployments::all(db).await?;
    let newest = known
        .into_iter()
        .find(|one| one.destination == *destination && one.problem.is_none());
    let Some(newest) = newest.and_then(|one| one.stored) else {
        return Ok(Vec::new());
    };
    let Some(place) = services.backups.open(destination)? else {
        return Ok(Vec::new());
    };
    let folder = format!("deployments/{}", keyrings::deployment(db).await?);
    let folder = folder.parse().expect("an id is a part of a name");
    let (mut old, mut after) = (Vec::new(), None);
    loop {
        let page = place.list(&folder, after.as_ref()).await?;
        after = page.names.last().cloned();
        let others = page
            .names
            .into_iter()
            .filter(|name| name.as_str() != newest.name);
        old.extend(others.map(|name| Pruned {
            destination: destination.clone(),
            bundle: name.to_string(),
        }));
        if !page.more {
            return Ok(old);
        }
    }
}

fn open(
    services: &Services,
    destination: &DestinationName,
) -> Result<Box<dyn Prune>, OperationError> {
    let url = services.backups.url(destination);
    let url = url.expect("only destinations that are reached are pruned");
    Ok(open_to_prune(url, Environment::of_process())?)
}
