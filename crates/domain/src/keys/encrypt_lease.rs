//! The right to encrypt with a key for a while (rule 8).

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

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
    /// The longest that any process trusts a lease, whatever a policy says.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

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

/// How old a key has to be before anything is encrypted under it, where the store has replicas: a failover that loses the
/// last seconds would lose the key too, and with it whatever stands under it.
pub const KEY_SETTLES: Duration = Duration::from_secs(10);

/// The latest time, by the store's clock, at which a process may still start an encryption under a replaced key.
///
/// The store already showed the key as replaced at `seen_replaced`, so every lease under it was requested earlier, and
/// lasts from its request on. `longest` is the longest lease ever granted under the key; if it is unknown,
/// [`EncryptLease::LONGEST`] counts.
pub fn leases_end(seen_replaced: DateTime<Utc>, longest: Option<Duration>) -> DateTime<Utc> {
    let longest = longest.unwrap_or(EncryptLease::LONGEST);
    seen_replaced + longest.min(EncryptLease::LONGEST)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn leases_end_when_the_longest_does_and_what_is_not_known_lasts_as_long_as_any() {
        let seen = DateTime::UNIX_EPOCH;
        let ends = |longest: Option<u64>| leases_end(seen, longest.map(Duration::from_secs)) - seen;
        assert_eq!(ends(Some(0)), TimeDelta::zero());
        assert_eq!(ends(Some(300)), TimeDelta::minutes(5));
        for longest in [None, Some(86_400), Some(u64::MAX)] {
            assert_eq!(ends(longest), TimeDelta::days(1));
        }
    }

    #[test]
    fn a_lease_ends_when_it_said_counted_from_the_asking() {
        let asked = Instant::now();
        let lease = EncryptLease::granted(KeyId::new(1), asked, Duration::from_secs(5));
        assert!(lease.covers(asked));
        assert!(lease.covers(asked + Duration::from_millis(4_999)));
        assert!(!lease.covers(asked + Duration::from_secs(5)));
    }
}
