//! Reports of a master key that were cut short: keys that it exposes still encrypt, and nobody reported them.

use rekey_domain::{AlertKind, KeyState};
use rekey_store::{
    ConnectionTrait, StoreError,
    keyrings::Keyring,
    keys::{self, reported_masters},
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
            let keys = keys::of_keyring(db, keyring.id).await?;
            let mut primary = keys.iter().filter(|key| key.state == KeyState::Active);
            left +=
                u64::from(primary.any(|key| reported.exposes(key) && key.reported_at.is_none()));
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
