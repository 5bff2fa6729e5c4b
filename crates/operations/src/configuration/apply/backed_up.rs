//! Destinations: declared as the configuration has them. What is kept at one that goes stays there.

use rekey_domain::{BackupPolicy, DestinationName};
use rekey_store::{ConnectionTrait, Unit, backups::destinations, keyrings};

use crate::{Change, Desired, OperationError};

/// Writes the destinations, and refuses keyrings that need one where there is none.
pub(super) async fn write(unit: &Unit, desired: &Desired) -> Result<Vec<Change>, OperationError> {
    let known = destinations::all(unit.db()).await?;
    let change = |name, change: &str| Change {
        subject: format!("destination {name}"),
        change: change.to_owned(),
    };
    let new = declare(unit, desired).await?;
    let mut changes: Vec<_> = new
        .iter()
        .map(|name| change(name, "keys are backed up there"))
        .collect();
    for gone in known
        .iter()
        .filter(|one| !desired.destinations.contains(&one.name))
    {
        destinations::remove(unit, &gone.name).await?;
        changes.push(change(
            &gone.name,
            "nothing is backed up there any more; what is there stays",
        ));
    }
    if desired.destinations.is_empty() {
        refuse_required(unit).await?;
    }
    Ok(changes)
}

/// Declares the destinations that are not there yet, and gives them.
pub(crate) async fn declare(
    unit: &Unit,
    desired: &Desired,
) -> Result<Vec<DestinationName>, OperationError> {
    let known = destinations::all(unit.db()).await?;
    let is_new = |name: &&DestinationName| known.iter().all(|one| one.name != **name);
    let new: Vec<_> = desired
        .destinations
        .iter()
        .filter(is_new)
        .cloned()
        .collect();
    for name in &new {
        destinations::make(unit, name).await?;
    }
    Ok(new)
}

async fn refuse_required(unit: &Unit) -> Result<(), OperationError> {
    let all = keyrings::all(unit.db()).await?;
    let needs = all
        .iter()
        .find(|one| one.policy.backup == BackupPolicy::Required);
    match needs {
        None => Ok(()),
        Some(keyring) => Err(needs_destination(keyring.name.as_str())),
    }
}

/// Refuses, before anything is made, first keys that must be backed up and could not be.
pub(crate) async fn refuse_nowhere(
    db: &impl ConnectionTrait,
    desired: &Desired,
) -> Result<(), OperationError> {
    if !desired.destinations.is_empty() {
        return Ok(());
    }
    for wanted in &desired.keyrings {
        let used = keyrings::find(db, &wanted.name).await?;
        let used = used.filter(|keyring| keyring.primary_key_id.is_some());
        let policy = wanted.policy_over(None, desired.backup);
        if used.is_none() && policy.backup == BackupPolicy::Required {
            return Err(needs_destination(wanted.name.as_str()));
        }
    }
    Ok(())
}

/// A keyring whose keys must be backed up, and nowhere to keep them.
pub(crate) fn needs_destination(keyring: &str) -> OperationError {
    OperationError::Configuration {
        place: format!("keyring {keyring}"),
        problem: "its keys must be backed up and there is no [[destination]] to keep bundles; declare one, such as url = \"file:///var/lib/rekey/backups\" or url = \"s3://bucket/prefix\", or say backup = \"off\" for this keyring, or before all sections for every keyring that is made".to_owned(),
    }
}
