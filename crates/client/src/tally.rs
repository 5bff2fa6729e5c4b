//! What was encrypted and decrypted since the last report.

use std::{collections::HashMap, sync::Mutex};

use rekey_domain::KeyId;

use crate::{LeaseError, Leases, Use, locked::locked};

/// Uses of each key that are not reported yet.
#[derive(Default)]
pub(crate) struct Tally {
    /// One report at a time, so that no use is in two of them.
    reporting: tokio::sync::Mutex<()>,
    uses: Mutex<HashMap<KeyId, Use>>,
}

impl Tally {
    /// Counts `count` encryptions.
    pub(crate) fn encrypted(&self, key: KeyId, count: u64) {
        self.change(key, |used| {
            used.encrypted = used.encrypted.saturating_add(count);
        });
    }

    /// Counts `count` decryptions.
    pub(crate) fn decrypted(&self, key: KeyId, count: u64) {
        self.change(key, |used| {
            used.decrypted = used.decrypted.saturating_add(count);
        });
    }

    /// Reports what was counted. It is counted off only once the report is accepted: a use may be
    /// reported twice, and is never lost by a report that failed or was given up.
    ///
    /// # Errors
    /// [`LeaseError`] of the report.
    pub(crate) async fn report(&self, leases: &dyn Leases) -> Result<(), LeaseError> {
        let _turn = self.reporting.lock().await;
        let uses: Vec<Use> = locked(&self.uses).values().copied().collect();
        if uses.is_empty() {
            return Ok(());
        }
        leases.report(&uses).await?;
        let mut counted = locked(&self.uses);
        for reported in uses {
            if let Some(used) = counted.get_mut(&reported.key) {
                used.encrypted = used.encrypted.saturating_sub(reported.encrypted);
                used.decrypted = used.decrypted.saturating_sub(reported.decrypted);
            }
        }
        counted.retain(|_, used| used.encrypted > 0 || used.decrypted > 0);
        Ok(())
    }

    fn change(&self, key: KeyId, change: impl FnOnce(&mut Use)) {
        let mut uses = locked(&self.uses);
        change(uses.entry(key).or_insert(Use {
            key,
            encrypted: 0,
            decrypted: 0,
        }));
    }
}
