//! How many requests of one asker are read: some at once, then one in a while. The others are turned away unread.

use std::time::Duration;

/// So many requests may come at once.
pub const AT_ONCE: u32 = 100;
/// After that, one in this time.
pub const EVERY: Duration = Duration::from_secs(1);

/// What one asker has left. Times count from any fixed moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// When all requests taken so far are paid for, at one in [`EVERY`].
    paid_by: Duration,
}

impl Allowance {
    /// Takes one at `now`; `false` where none is left.
    pub fn take(&mut self, now: Duration) -> bool {
        let paid_by = self.paid_by.max(now) + EVERY;
        if paid_by - now > EVERY * AT_ONCE {
            return false;
        }
        self.paid_by = paid_by;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_many_as_at_once_then_one_each_second() {
        let mut allowance = Allowance::default();
        let start = Duration::from_secs(7);
        let taken =
            |allowance: &mut Allowance, now| (0..500).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, start), 100);
        assert_eq!(taken(&mut allowance, start + EVERY * 3), 3);
        assert_eq!(taken(&mut allowance, start + EVERY * 1_000), 100);
    }

    proptest! {
        #[test]
        fn no_more_than_its_share_in_any_time(pauses in prop::collection::vec(0u64..5_000, 1..400)) {
            let mut allowance = Allowance::default();
            let mut now = Duration::ZERO;
            let mut taken = 0;
            for pause in pauses {
                now += Duration::from_millis(pause);
                taken += u64::from(allowance.take(now));
                prop_assert!(taken <= u64::from(AT_ONCE) + now.as_secs());
            }
        }
    }
}
