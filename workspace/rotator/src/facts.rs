//! What the store says about a rotation's surroundings, for the rules to decide on.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rekey_domain::{Facts, Found, KeyId, PassCensus, Rotation as Rule, RotationState};
use rekey_store::{
    ConnectionTrait, StoreError, backups, census, columns::Protected, keyrings, keys, progress,
    rotations::Rotation, sweeps,
};
use uuid::Uuid;

/// The rotation as the rules see it.
pub fn rule(rotation: &Rotation) -> Rule {
    Rule {
        state: rotation.state,
        paused: rotation.paused,
        canary: rotation.only_column.is_some(),
        emergency: rotation.is_emergency(),
        due_at: rotation.due_at,
    }
}

/// Gathers the facts.
pub async fn gather(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    leases_end: Option<DateTime<Utc>>,
) -> Result<Facts, StoreError> {
    let standby = keys::standby(db, rotation.keyring_id).await?;
    let standby_settles_at = standby.as_ref().and_then(|key| key.settles_at(db));
    let standby = standby.map(|key| key.id);
    let is_proved = match standby {
        // An emergency waits for no drill.
        Some(_) if rotation.is_emergency() => true,
        Some(key) => {
            let policy = keyrings::by_id(db, rotation.keyring_id).await?.policy;
            backups::proof_of(db, policy.backup, key).await?.is_some()
        }
        None => false,
    };
    let distributing = rotation.state == RotationState::Distributing;
    let unfinished = progress::unfinished(db, rotation).await?;
    Ok(Facts {
        // What was distributed is what may become primary, and nothing else.
        standby_ready: is_proved && (!distributing || standby == rotation.target_key_id),
        standby_settles_at,
        planned: rotation.planned,
        open_batches: unfinished.open(),
        failed_batches: unfinished.failed,
        passes_before: rotation.pass.unsigned_abs(),
        moved: progress::moved_in_pass(db, rotation).await?,
        census: pass_census(db, rotation).await?,
        leases_end,
    })
}

/// The key ids whose values a rotation leaves alone: its target and whatever came later.
pub async fn settled(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<HashSet<KeyId>, StoreError> {
    let keys = keys::of_keyring(db, rotation.keyring_id).await?;
    Ok(keys::settled(&keys, rotation.target_key_id))
}

async fn pass_census(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Option<PassCensus>, StoreError> {
    let columns = sweeps::columns_of(db, rotation).await?;
    if columns.is_empty() {
        return Ok(Some(PassCensus { below_target: 0 }));
    }
    let counted = census::of_pass(db, rotation.id, rotation.pass).await?;
    if counted.is_empty() {
        return Ok(None);
    }
    let settled = settled(db, rotation).await?;
    let is_settled = |found: Found| found.is_settled(|id| settled.contains(&id));
    let mut below_target = 0;
    for column in columns {
        let of_column = counted.iter().filter(|count| count.column_id == column.id);
        let place = place_of(&column);
        let is_elsewhere = |count: &census::Counted| {
            let there = count.place.as_deref();
            there.is_some_and(|there| there != place)
        };
        let counted_there =
            of_column.clone().next().is_some() && !of_column.clone().any(is_elsewhere);
        if !counted_there || !is_of_pass(rotation, column.id) {
            // The column was protected later, or is elsewhere now. Nobody knows what is there, so it does not count as
            // settled.
            below_target += 1;
        }
        // Numbers alone prove nothing: only values that the census itself saw in quarantine are subtracted.
        below_target += of_column
            .filter(|count| !is_settled(count.found()))
            .map(|count| count.rows().saturating_sub(count.quarantined()))
            .sum::<u64>();
    }
    Ok(Some(PassCensus { below_target }))
}

/// Where the column was counted, with the identities of column and database, as a name may be given to another.
pub fn place_of(column: &Protected) -> String {
    let (relation, name) = (&column.table.relation, &column.spec.name.column);
    let known = column.identity.as_ref();
    let known = known.map_or_else(String::new, |known| format!(" ({known})"));
    let database = column.source.database_id.as_ref();
    let database = database.map_or_else(String::new, |id| format!(" in {id}"));
    format!("{relation}.{name}{known}{database}")
}

/// Whether the present pass reads the column in all of its batches. Older programs noted no columns, and planned all
/// there were.
pub fn is_of_pass(rotation: &Rotation, column: Uuid) -> bool {
    let noted = rotation.pass_columns.as_ref();
    noted.is_none_or(|columns| columns.contains(&column))
}
