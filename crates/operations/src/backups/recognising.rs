//! A destination is known again by a mark of ours: another place under its name proves nothing of what was stored elsewhere.

use std::collections::HashSet;

use rekey_destinations::{Destination, DestinationError, ObjectName};
use rekey_domain::DestinationName;
use rekey_store::{backups::destinations, leases::Lease};
use uuid::Uuid;

use crate::{OperationError, Services, backups::attempt::working_unit};

/// What is written beside the bundles.
const SAYS: &[u8] =
    b"Rekey keeps bundles of keys here, and knows the place again by this object.\n";

/// Who recognises destinations.
pub(crate) enum Who<'a> {
    /// Who stores: a place without our mark gets one, and what is known of another place counts no more.
    Stores(Option<&'a Lease>),
    /// Who only looks, perhaps at another place than the verifier's.
    Looks,
}

/// The destinations that are not where they are said to be. One that does not answer is not among them.
///
/// # Errors
/// [`OperationError`] of the store.
pub(crate) async fn elsewhere(
    services: &Services,
    who: Who<'_>,
) -> Result<HashSet<DestinationName>, OperationError> {
    let mut elsewhere = HashSet::new();
    for known in destinations::all(services.store.db()).await? {
        let Some(destination) = services.backups.open(&known.name).ok().flatten() else {
            continue;
        };
        if known.mark.is_some() && services.backups.mark_of(&known.name) == known.mark {
            continue;
        }
        let is_there = match known.mark {
            Some(mark) => match destination.read(&object(mark)).await {
                Ok(_) => Some(mark),
                Err(DestinationError::Missing { .. }) => None,
                // Who stores makes a place that is not there.
                Err(DestinationError::NoPlace { .. }) if matches!(who, Who::Stores(_)) => None,
                // It is not known, so nothing is decided. Of a place that is not there the drills say so.
                Err(_) => continue,
            },
            None => None,
        };
        match (is_there, &who) {
            (Some(mark), _) => services.backups.recognise(&known.name, mark),
            (None, Who::Stores(lease)) => {
                mark(services, &known.name, &*destination, *lease).await?;
            }
            (None, Who::Looks) => _ = elsewhere.insert(known.name),
        }
    }
    Ok(elsewhere)
}

async fn mark(
    services: &Services,
    name: &DestinationName,
    destination: &dyn Destination,
    lease: Option<&Lease>,
) -> Result<(), OperationError> {
    let mark = Uuid::new_v4();
    if let Err(error) = destination.create(&object(mark), SAYS).await {
        tracing::warn!(%error, destination = %name, "a destination was not marked");
        return Ok(());
    }
    let unit = working_unit(services, lease).await?;
    destinations::note_place(&unit, name, mark).await?;
    unit.commit().await?;
    tracing::info!(destination = %name, place = destination.place(), "bundles are kept at a place that was not known");
    services.backups.recognise(name, mark);
    Ok(())
}

fn object(mark: Uuid) -> ObjectName {
    let name = format!("places/{mark}.json").parse();
    name.expect("an id is a part of a name")
}
