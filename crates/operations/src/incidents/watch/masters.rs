//! Reports of a master key that were cut short: what saying the same again would take or wrap anew stands until it is done.

use rekey_domain::{AlertKind, KeyState};
use rekey_store::{
    ConnectionTrait, StoreError,
    keyrings::Keyring,
    keys::{
        self, Key,
        reported_masters::{self, ReportedMaster},
    },
    rotations::{self, Rotation},
};

use super::standing::{MINUTE, Standing};

pub(super) async fn standing(
    db: &impl ConnectionTrait,
    keyrings: &[Keyring],
) -> Result<Vec<Standing>, StoreError> {
    let mut standing = Vec::new();
    for reported in reported_masters::all(db).await? {
        let mut left = 0;
        for keyring in keyrings {
            left += left_of(db, &reported, keyring).await?;
        }
        if left > 0 {
            // Taking a report takes seconds.
            let kind = AlertKind::MasterReportUnfinished;
            let unfinished = Standing::new(kind, &reported.master_key).counting(left);
            standing.push(unfinished.after(MINUTE));
        }
    }
    Ok(standing)
}

/// The keys of a keyring that the report did not come to.
async fn left_of(
    db: &impl ConnectionTrait,
    reported: &ReportedMaster,
    keyring: &Keyring,
) -> Result<u64, StoreError> {
    let latest = rotations::latest(db, keyring.id).await?;
    let keys = keys::of_keyring(db, keyring.id).await?;
    let left = keys.iter().filter(|key| {
        let is_under = key.master_key.as_ref() == Some(&reported.master_key);
        let is_wrapped_so = is_under && key.state != KeyState::Destroyed;
        is_wrapped_so || (reported.exposes(key) && is_trusted(key, latest.as_ref()))
    });
    Ok(left.count() as u64)
}

/// Whether the key is used, or was, as though nobody had reported it. A machine's report that was held leaves it so.
fn is_trusted(key: &Key, latest: Option<&Rotation>) -> bool {
    let is_replaced = || key.reported_at.is_some() && latest.is_some_and(Rotation::lacks_its_key);
    match key.state {
        KeyState::Inactive => true,
        KeyState::Active => !is_replaced(),
        _ => false,
    }
}
