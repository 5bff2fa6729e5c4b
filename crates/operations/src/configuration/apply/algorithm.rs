//! Another algorithm for a keyring: the keys it makes from now on have it, and a waiting standby makes way.

use rekey_domain::{Algorithm, Found};
use rekey_messages::StandbyWanted;
use rekey_store::{
    Unit,
    audit::{self, Record},
    columns,
    keyrings::{self, Keyring},
    keys,
};
use serde_json::json;

use super::change::Change;
use crate::{Desired, OperationError, Services, census_of_columns};

/// A standby that is destroyed unused: it was made for the algorithm that the keyring had.
pub(super) struct Retired {
    key: String,
    algorithm: Algorithm,
}

impl Retired {
    pub(super) fn change(&self) -> Change {
        let algorithm = self.algorithm;
        Change {
            subject: format!("key {}", self.key),
            change: format!("standby of {algorithm} retired unused; another is made"),
        }
    }

    pub(super) fn record(&self) -> Record<'_> {
        Record {
            action: audit::Action::KeyRetired,
            subject: &self.key,
            outcome: "done",
            details: json!({ "algorithm": self.algorithm }),
        }
    }
}

/// Refuses another algorithm while values stand under the standby that would make way: the store is older than the
/// data, and nobody could read them any more.
pub(super) async fn refuse_too_new(
    services: &Services,
    desired: &Desired,
) -> Result<(), OperationError> {
    let db = services.store.db();
    for wanted in &desired.keyrings {
        let Some(keyring) = keyrings::find(db, &wanted.name).await? else {
            continue;
        };
        let standby = keys::standby(db, keyring.id).await?;
        let Some(standby) = standby.filter(|key| key.algorithm != wanted.algorithm) else {
            continue;
        };
        let columns = columns::of_keyring(db, keyring.id).await?;
        let counted = census_of_columns(services, &columns, None).await?;
        let under = counted
            .iter()
            .filter(|row| row.found == Found::Key(standby.id));
        let under: u64 = under.map(|row| row.rows).sum();
        if under > 0 {
            let (name, key) = (&wanted.name, standby.name(&keyring));
            return Err(OperationError::Refused(format!(
                "{under} value(s) of keyring {name} stand under {key}, a standby here, which another algorithm would retire, and nobody could read them any more: this store is older than the data, such as a copy that was restored. Restore a newer copy, or rekey rotate {name}, which makes {key} the primary; then change the algorithm"
            )));
        }
    }
    Ok(())
}

/// Changes it. A rotation that has not switched yet waits for the new standby; one that has goes on
/// to the key it switched to.
pub(super) async fn change(
    unit: &Unit,
    keyring: &Keyring,
    algorithm: Algorithm,
) -> Result<(Change, Vec<Retired>), OperationError> {
    keyrings::lock(unit, keyring.id).await?;
    keyrings::set_algorithm(unit, keyring.id, algorithm).await?;
    let retired = keys::retire_standbys(unit, keyring.id, algorithm).await?;
    let (name, before) = (&keyring.name, keyring.algorithm);
    if !retired.is_empty() {
        let wanted = StandbyWanted {
            keyring: name.clone(),
        };
        unit.send(&wanted).await?;
    }
    let retired = retired.iter().map(|key| Retired {
        key: key.name(keyring).to_string(),
        algorithm: key.algorithm,
    });
    let change = Change {
        subject: format!("keyring {name}"),
        change: format!(
            "algorithm of new keys {before} -> {algorithm}; values move with the next rotation: rekey rotate {name}"
        ),
    };
    Ok((change, retired.collect()))
}
