//! Asking for a sweep: rows below a keyring's primary key move to it, and no key is replaced.

use rekey_domain::{ColumnName, Principal, RotationReason, SweepDecision, decide_sweep};
use rekey_messages::RotationDue;
use rekey_store::{
    Unit, keyrings,
    rotations::{self, Rotation},
    sweeps,
};
use serde::Serialize;
use uuid::Uuid;

use crate::OperationError;

/// What a request for a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepOutcome {
    /// A sweep starts.
    Started,
    /// The live rotation reads those rows again after its grace period.
    Joined,
    /// The live rotation reads all rows below its target again, now.
    AnotherPass,
}

/// Asks for a sweep of a keyring, of the rows in which these columns stand; of none named: of all
/// rows. Gives the rotation that reads them again.
///
/// # Errors
/// [`OperationError::Refused`] where a failed rotation is to be retried first,
/// [`OperationError::Store`] for a keyring without a primary key.
pub(crate) async fn sweep(
    unit: &Unit,
    keyring: Uuid,
    columns: &[ColumnName],
    reason: RotationReason,
    principal: &Principal,
) -> Result<(Rotation, SweepOutcome), OperationError> {
    // Of two requests at once the second finds what the first led to.
    let keyring = keyrings::lock(unit, keyring).await?;
    let latest = latest(unit, keyring.id).await?;
    let mut columns = columns.to_vec();
    let decision = decide_sweep(latest.as_ref().map(|one| (one.kind.0, one.state.0)));
    let (rotation, outcome) = match (decision, latest) {
        (SweepDecision::Join, Some(live)) => (live, SweepOutcome::Joined),
        (SweepDecision::AnotherPass, Some(live)) => {
            rotations::update(unit, &live, rotations::next_pass(&live)).await?;
            (live, SweepOutcome::AnotherPass)
        }
        (SweepDecision::RetryFirst, Some(failed)) => return Err(retry_first(&failed)),
        (decision, latest) => {
            if let (SweepDecision::Supersede, Some(earlier)) = (decision, latest) {
                columns = sweeps::supersede(unit, &earlier, &columns).await?;
            }
            let started = sweeps::start(unit, &keyring, &columns, reason, principal);
            (started.await?, SweepOutcome::Started)
        }
    };
    let due = RotationDue {
        rotation: rotation.id,
    };
    unit.send(&due).await?;
    Ok((rotation, outcome))
}

/// The keyring's latest rotation, which stays as it is until the unit ends.
async fn latest(unit: &Unit, keyring: Uuid) -> Result<Option<Rotation>, OperationError> {
    let of_keyring = rotations::of_keyring(unit.db(), keyring).await?;
    match of_keyring.first() {
        Some(latest) => Ok(Some(rotations::lock(unit, latest.id).await?.into())),
        None => Ok(None),
    }
}

fn retry_first(failed: &Rotation) -> OperationError {
    let id = failed.id;
    let why = failed.failure.as_deref();
    OperationError::Refused(format!(
        "rotation {id} of the keyring has failed ({}); mend the cause, then rekey rotations retry {id}: its next pass tries them again",
        why.unwrap_or("batches were given up")
    ))
}
