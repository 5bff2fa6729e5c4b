//! Once a day the verifier tries whether it could erase what is kept at a destination, on an object of its own.

use chrono::TimeDelta;
use rekey_destinations::Erasable as Tried;
use rekey_domain::Erasable;
use rekey_store::{backups::destinations, leases::Lease};

use crate::{OperationError, Services, backups::attempt::working_unit};

const EACH: TimeDelta = TimeDelta::days(1);

/// Tries it where it was not tried for a day.
///
/// # Errors
/// [`OperationError`] of the store.
pub(crate) async fn try_to_erase(
    services: &Services,
    lease: Option<&Lease>,
) -> Result<(), OperationError> {
    let now = services.store.now().await?;
    for known in destinations::all(services.store.db()).await? {
        let is_late = known.probed_at.is_none_or(|at| at < now - EACH);
        let Some(destination) = services.backups.open(&known.name).ok().flatten() else {
            continue;
        };
        if !is_late {
            continue;
        }
        let tried = destination.erasable().await;
        let erasable = match &tried {
            Ok(Tried::Yes) => Some(Erasable::Yes),
            Ok(Tried::Versioned) => Some(Erasable::Versioned),
            Ok(Tried::No) => Some(Erasable::No),
            Err(error) => {
                tracing::warn!(%error, destination = %known.name, "nobody knows who could erase there");
                None
            }
        };
        let unit = working_unit(services, lease).await?;
        // What could not be told leaves what was known.
        let erasable = erasable.or(known.erasable);
        destinations::note_erasable(&unit, &known.name, erasable).await?;
        unit.commit().await?;
    }
    Ok(())
}
