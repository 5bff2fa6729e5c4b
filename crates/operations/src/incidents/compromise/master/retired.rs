//! What the audit log says of a master key that was replaced: no row says which keys were under it, so all count that were made until then.

use chrono::{DateTime, TimeDelta, Utc};
use rekey_store::{
    ConnectionTrait, StoreError,
    audit::{self, Action},
};

/// A key that was asked of the KMS while the master key was being replaced is stored by then.
const STORED_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// Whether it ever was a master key of this deployment.
pub async fn is_known(db: &impl ConnectionTrait, master_key: &str) -> Result<bool, StoreError> {
    let ours = [
        Action::MasterKeyCreated,
        Action::MasterKeyRotated,
        Action::MasterKeyRotationStarted,
    ]
    .map(|action| action.to_string());
    let entries = audit::of_subject(db, master_key).await?;
    Ok(entries.iter().any(|entry| ours.contains(&entry.action)))
}

/// Until when keys were made that may have been under it; none where it was never replaced. Until `now` where nobody
/// wrote down that another had taken its place.
pub async fn keys_until(
    db: &impl ConnectionTrait,
    master_key: &str,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let started = Action::MasterKeyRotationStarted.to_string();
    let entries = audit::of_subject(db, master_key).await?;
    let Some(last) = entries.iter().rfind(|entry| entry.action == started) else {
        return Ok((!entries.is_empty()).then_some(now));
    };
    let ended = audit::next_of(db, Action::MasterKeyRotated, last).await?;
    Ok(Some(ended.map_or(now, |ended| {
        (ended.time + STORED_WITHIN).min(now)
    })))
}
