//! Backups of keys: the destinations there are, the bundles kept there, and what drills made of them.

pub mod bundles;
pub mod checkpoints;
pub mod deployments;
pub mod destinations;
pub mod drills;
pub(crate) mod entities;
pub mod recovery_keys;

use chrono::DateTime;
use rekey_domain::{BackupPolicy, BackupProof, KeyId, backup_proof};
use sea_orm::ConnectionTrait;

use crate::{StoreError, database::time::database_time};

/// The proof that a key may become primary: what the newest drills at today's destinations found.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn proof_of(
    db: &impl ConnectionTrait,
    policy: BackupPolicy,
    key: KeyId,
) -> Result<Option<BackupProof>, StoreError> {
    let now = DateTime::from_timestamp_millis(database_time(db).await?).unwrap_or_default();
    if policy == BackupPolicy::Off {
        return Ok(backup_proof(policy, &[], now));
    }
    let known = destinations::all(db).await?;
    let drills = drills::of_key(db, key).await?;
    let at_known = drills
        .iter()
        .filter(|drill| known.iter().any(|one| one.name == drill.destination));
    let drilled: Vec<_> = at_known.map(drills::Drill::for_the_gate).collect();
    Ok(backup_proof(policy, &drilled, now))
}
