//! Cancelling a rotation: it stops where it is, and the next one takes the rest along.

use rekey_domain::{KeyState, Principal, RotationState};
use rekey_store::{Unit, audit, keys, rotations};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, OperationError, Services,
    access::audited::{Audited, reason},
};

/// Ends a rotation that is under way or has failed. Nothing is taken back: before the switch the
/// standby stays the standby; after it the new key stays the primary, and rows under older ones stay
/// readable until the next rotation of the keyring moves them. A batch in flight ends, and no other
/// begins.
///
/// # Errors
/// [`OperationError::Refused`] without a reason, and for a rotation that is over.
pub async fn cancel_rotation(
    services: &Services,
    id: Uuid,
    because: &str,
    principal: &Principal,
) -> Result<(), OperationError> {
    let because = reason(because, "a rotation is cancelled")?;
    let asked = Audited::begin(services, principal, Action::Cancel).await?;
    let rotation = rotations::lock(&asked.unit, id).await?;
    let state = rotation.state;
    if !state.may_become(RotationState::Cancelled) {
        return Err(OperationError::Refused(format!(
            "rotation {id} is {state}; only one that is under way or has failed is cancelled"
        )));
    }
    if rotation.lacks_its_key()
        && let Some(meanwhile) = lacks_a_key(&asked.unit, rotation.keyring_id).await?
    {
        return Err(OperationError::Refused(format!(
            "rotation {id} replaces a compromised key, and {meanwhile} until it has; it is cancelled once it has switched"
        )));
    }
    rotations::cancel(&asked.unit, &rotation, because).await?;
    let details = json!({ "because": because, "was": state });
    asked
        .commit(audit::Action::RotationCancelled, &id.to_string(), details)
        .await
}

/// What holds meanwhile, where the keyring's primary key was reported compromised and nothing but this rotation replaces
/// it.
async fn lacks_a_key(unit: &Unit, keyring: Uuid) -> Result<Option<&'static str>, OperationError> {
    let keys = keys::of_keyring(unit.db(), keyring).await?;
    let primary = keys.iter().find(|key| key.state == KeyState::Active);
    Ok(match primary.map(|key| key.reported_at) {
        None => Some("nothing is encrypted"),
        Some(Some(_)) => Some("everything is encrypted under that key"),
        Some(None) => None,
    })
}
