//! Storing a bundle at a destination: sealed, made there, read back, then noted and audited.

use rekey_backups::Bundle;
use rekey_destinations::{Destination, DestinationError, ObjectName};
use rekey_domain::{BackupProblem, DestinationName, KeyName};
use rekey_runtime::crash;
use rekey_store::{
    StoreError, Unit,
    audit::{self, AuditPen, Record},
    backups::bundles::{self, NewBackup},
};
use serde_json::json;

use crate::{
    Services,
    backups::sealing::{Trouble, Unwrapped},
};

/// Backs a key up at a destination. The same key and times give the same bytes under the same name, so that doing it
/// again writes nothing; an object that stands there is never written over. Gives the bundle's name.
pub(crate) async fn store(
    services: &Services,
    unwrapped: &Unwrapped,
    bundle: &Bundle,
    (name, destination): (&DestinationName, &dyn Destination),
    pen: Option<&AuditPen>,
) -> Result<String, Trouble> {
    crash::point("backup.sealed");
    let object = object_name(&bundle.name().to_string())?;
    let made = destination.create(&object, bundle.as_bytes()).await;
    made.map_err(|error| of_destination(&error))?;
    crash::point("backup.stored");
    let new = NewBackup {
        key: unwrapped.key.id,
        destination: name,
        name: object.to_string(),
        backup_key: bundle.backup_key(),
        recovery: bundle.recovery_key().map(|key| key.to_string()),
    };
    let unit = services.store.begin().await?;
    let is_new = bundles::note(&unit, new.clone()).await?;
    if let Some(pen) = pen.filter(|_| is_new) {
        record(&unit, pen, &unwrapped.key.name(&unwrapped.keyring), &new).await?;
    }
    unit.commit().await?;
    crash::point("backup.listed");
    Ok(object.to_string())
}

/// What the audit log says of a new bundle.
pub(crate) async fn record(
    unit: &Unit,
    pen: &AuditPen,
    key: &KeyName,
    new: &NewBackup<'_>,
) -> Result<(), StoreError> {
    let details = json!({
        "key_id": new.key,
        "destination": new.destination,
        "bundle": new.name,
        "backup_key": new.backup_key,
        "recovery": new.recovery,
    });
    let record = Record {
        action: audit::Action::KeyBackedUp,
        subject: &key.to_string(),
        outcome: "done",
        details,
    };
    pen.append(unit, record).await
}

/// The name of a bundle as a destination takes it. What the store was made to call a bundle may be none: nothing stands
/// there then.
pub(crate) fn object_name(bundle: &str) -> Result<ObjectName, Trouble> {
    let name = bundle.parse();
    name.map_err(|_| Trouble::Problem(BackupProblem::Missing))
}

/// What the drill's row says of a destination that refused or failed. The log says it whole.
pub(crate) fn of_destination(error: &DestinationError) -> Trouble {
    tracing::warn!(%error, "a destination of backups");
    Trouble::Problem(match error {
        DestinationError::Missing { .. } => BackupProblem::Missing,
        DestinationError::OtherBytes { .. } | DestinationError::TooLong { .. } => {
            BackupProblem::Altered
        }
        DestinationError::NoPlace { .. } => BackupProblem::NoPlace,
        // What is in the way of the whole directory says nothing of a bundle.
        DestinationError::InTheWay { what, .. } if what == "itself" => BackupProblem::NoPlace,
        DestinationError::InTheWay { .. } => BackupProblem::InTheWay,
        error if error.is_retryable() => BackupProblem::OutOfReach,
        _ => BackupProblem::Refused,
    })
}
