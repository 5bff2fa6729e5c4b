//! The certificate of a completed rotation: who, when, why, census before and after, what was off.

use chrono::{DateTime, Utc};
use rekey_domain::Found;
use rekey_operations::OperationError;
use rekey_store::{
    ConnectionTrait, batches, census,
    census::Counted,
    columns::{self, Protected},
    keyrings::Keyring,
    keys::{self, Key},
    quarantine,
    rotations::Rotation,
};
use serde_json::{Value, json};

/// Writes the certificate.
pub async fn write(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    keyring: &Keyring,
    now: DateTime<Utc>,
) -> Result<Value, OperationError> {
    let keys = keys::of_keyring(db, keyring.id).await?;
    let columns = columns::of_keyring(db, keyring.id).await?;
    let before = census::of_pass(db, rotation.id, census::BEFORE).await?;
    let after = census::of_pass(db, rotation.id, rotation.pass).await?;
    let tally = batches::tally(db, rotation).await?;
    let mut quarantined = 0;
    for column in &columns {
        quarantined += quarantine::of_pass(db, rotation, column.id).await?;
    }
    let name = |id: Option<i64>| {
        keys.iter()
            .find(|key| Some(key.key_id) == id)
            .map(|key| key.name(keyring))
    };
    Ok(json!({
        "schema": "rekey.certificate/v1",
        "rotation": rotation.id,
        "keyring": keyring.name.0,
        "requested_by": rotation.principal.0,
        "reason": rotation.reason.0,
        "from": name(rotation.previous_key_id),
        "to": name(rotation.target_key_id),
        "requested_at": rotation.requested_at,
        "switched_at": rotation.switched_at,
        "completed_at": now,
        "passes": rotation.pass + 1,
        "moved": tally.moved,
        "conflicts": tally.conflicts,
        "quarantined": quarantined,
        "census_before": listed(&before, &columns, &keys, keyring),
        "census_after": listed(&after, &columns, &keys, keyring),
        "gates_off": if keyring.policy.0.backup == rekey_domain::BackupPolicy::Off { vec!["backup"] } else { vec![] },
    }))
}

fn listed(
    counted: &[Counted],
    columns: &[Protected],
    keys: &[Key],
    keyring: &Keyring,
) -> Vec<Value> {
    let line = |count: &Counted| {
        let column = columns.iter().find(|column| column.id == count.column_id);
        let under = match count.found() {
            Found::NotCiphertext => "not-ciphertext".to_owned(),
            Found::Key(id) => {
                let ours = keys.iter().find(|key| key.id() == id);
                ours.map_or_else(|| id.to_string(), |key| key.name(keyring).to_string())
            }
        };
        json!({ "column": column.map(|column| column.spec.name.to_string()), "under": under, "rows": count.rows })
    };
    counted
        .iter()
        .filter(|count| count.rows > 0)
        .map(line)
        .collect()
}
