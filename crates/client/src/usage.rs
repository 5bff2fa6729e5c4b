//! Encryptions drawn ahead of use, so that no key makes more than it may (SP 800-38D §8.3).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rekey_domain::{KeyId, next_block_size};

use crate::{LeaseError, Leases, locked::locked};

/// What is left of the blocks of each key.
#[derive(Default)]
pub(crate) struct Usage {
    pools: Mutex<HashMap<KeyId, Arc<Pool>>>,
}

#[derive(Default)]
struct Pool {
    /// One request for a block at a time.
    asking: tokio::sync::Mutex<()>,
    drawn: Mutex<Drawn>,
}

#[derive(Default)]
struct Drawn {
    left: u64,
    /// The size of the last block by the doubling alone, whatever a large draw asked for.
    previous: Option<u64>,
}

impl Drawn {
    fn take(&mut self, count: u64) -> bool {
        let enough = self.left >= count;
        if enough {
            self.left -= count;
        }
        enough
    }
}

impl Usage {
    /// Draws `count` encryptions under `key`, asking for further blocks when too few are left.
    ///
    /// # Errors
    /// [`LeaseError`] when no block is given; what was given before stays for later draws.
    pub(crate) async fn draw(
        &self,
        leases: &dyn Leases,
        key: KeyId,
        count: u64,
    ) -> Result<(), LeaseError> {
        let pool = self.pool(key);
        if locked(&pool.drawn).take(count) {
            return Ok(());
        }
        let _turn = pool.asking.lock().await;
        loop {
            let (wanted, next) = {
                let mut drawn = locked(&pool.drawn);
                if drawn.take(count) {
                    return Ok(());
                }
                let next = next_block_size(drawn.previous);
                (next.max(count - drawn.left), next)
            };
            let block = leases.usage_block(key, wanted).await?;
            if block.size == 0 {
                let reason = format!("an empty block of encryptions under key {key}");
                return Err(LeaseError::Refused { reason });
            }
            let mut drawn = locked(&pool.drawn);
            drawn.left = drawn.left.saturating_add(block.size.min(wanted));
            drawn.previous = Some(next);
        }
    }

    /// Gives back `count` encryptions that were drawn and not made.
    pub(crate) fn give_back(&self, key: KeyId, count: u64) {
        let pool = self.pool(key);
        let mut drawn = locked(&pool.drawn);
        drawn.left = drawn.left.saturating_add(count);
    }

    fn pool(&self, key: KeyId) -> Arc<Pool> {
        Arc::clone(locked(&self.pools).entry(key).or_default())
    }
}
