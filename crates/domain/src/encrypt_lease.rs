//! The right to encrypt with a key for a while (rule 8).

use std::time::{Duration, Instant};

use crate::KeyId;

/// A process may start encryptions under `key` until the lease ends.
///
/// Kept in monotonic time, counted from before the request that renewed it was sent: no step of any
/// wall clock, and no slow answer, makes it last longer than the store granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptLease {
    /// The primary key at the time of renewal.
    pub key: KeyId,
    ends: Instant,
}

impl EncryptLease {
    /// The lease that the store granted for `lasts` to a request sent at `asked`.
    pub fn granted(key: KeyId, asked: Instant, lasts: Duration) -> Self {
        Self {
            key,
            ends: asked + lasts,
        }
    }

    /// Whether an encryption may start at `now`.
    pub fn covers(&self, now: Instant) -> bool {
        now < self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_when_it_said_counted_from_the_asking() {
        let asked = Instant::now();
        let lease = EncryptLease::granted(KeyId::new(1), asked, Duration::from_secs(5));
        assert!(lease.covers(asked));
        assert!(lease.covers(asked + Duration::from_millis(4_999)));
        assert!(!lease.covers(asked + Duration::from_secs(5)));
    }
}
