//! The pace of a source, in rows a second over all processes: rows are owed once taken on, and time works them off.

use std::{num::NonZeroU32, time::Duration};

/// A row in thousandths: a rate in rows a second is then as many thousandths a millisecond.
const ROW: u64 = 1_000;

/// What a source is owed: rows that were taken on and whose time has not passed yet.
///
/// Whoever finds nothing owed may take on as many rows as it likes, which are owed from then on. So
/// within any time no more rows are moved than its seconds allow, and one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// In thousandths of a row.
    pub owed: u64,
    /// As of this time, in milliseconds.
    pub as_of: i64,
}

impl Pace {
    /// Takes on `rows`, if nothing is owed at `now`.
    ///
    /// # Errors
    /// The time until nothing is owed.
    pub fn take(self, rows: u64, rate: NonZeroU32, now: i64) -> Result<Self, Duration> {
        let settled = self.settled(rate, now);
        if settled.owed > 0 {
            let millis = settled.owed.div_ceil(u64::from(rate.get()));
            return Err(Duration::from_millis(millis));
        }
        Ok(Self {
            owed: rows.saturating_mul(ROW),
            ..settled
        })
    }

    /// Replaces the rows that were taken on by the rows that were moved.
    #[must_use]
    pub fn correct(self, taken: u64, moved: u64, rate: NonZeroU32, now: i64) -> Self {
        let settled = self.settled(rate, now);
        let (taken, moved) = (taken.saturating_mul(ROW), moved.saturating_mul(ROW));
        Self {
            owed: settled.owed.saturating_add(moved).saturating_sub(taken),
            ..settled
        }
    }

    /// As of `now`. A clock that was stepped back works nothing off.
    fn settled(self, rate: NonZeroU32, now: i64) -> Self {
        let passed = u64::try_from(now.saturating_sub(self.as_of)).unwrap_or(0);
        let worked_off = passed.saturating_mul(u64::from(rate.get()));
        Self {
            owed: self.owed.saturating_sub(worked_off),
            as_of: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(rows: u32) -> NonZeroU32 {
        NonZeroU32::new(rows).unwrap()
    }

    #[test]
    fn a_hundred_rows_at_fifty_a_second_are_worked_off_in_two_seconds() {
        let pace = Pace::default().take(100, rate(50), 10_000).unwrap();
        assert_eq!(
            pace.take(1, rate(50), 10_500),
            Err(Duration::from_millis(1_500))
        );
        assert!(pace.take(1, rate(50), 12_000).is_ok());
        // Half of it was moved: the rest is not waited for.
        let corrected = pace.correct(100, 50, rate(50), 10_000);
        assert!(corrected.take(1, rate(50), 11_000).is_ok());
        // A higher rate counts at once.
        assert!(pace.take(1, rate(1_000), 10_100).is_ok());
    }

    #[test]
    fn a_clock_stepped_back_makes_nobody_wait_longer_than_what_is_owed() {
        let pace = Pace::default().take(100, rate(50), 1_000_000).unwrap();
        assert_eq!(pace.take(1, rate(50), 0), Err(Duration::from_secs(2)));
        let corrected = pace.correct(0, 0, rate(50), 0);
        assert!(corrected.take(1, rate(50), 2_000).is_ok());
    }

    proptest! {
        /// Processes that ask whenever they like, and take on what they like.
        #[test]
        fn in_no_stretch_of_time_more_is_taken_on_than_it_allows_and_one_batch(
            rows_a_second in 1u32..5_000,
            asks in prop::collection::vec((0i64..2_000, 1u64..3_000), 1..80),
        ) {
            let (mut pace, mut now, mut taken) = (Pace::default(), 0i64, Vec::new());
            for (later, rows) in asks {
                now += later;
                if let Ok(next) = pace.take(rows, rate(rows_a_second), now) {
                    pace = next;
                    taken.push((now, rows));
                }
            }
            for (first, (from, _)) in taken.iter().enumerate() {
                for (last, (to, largest)) in taken.iter().enumerate().skip(first) {
                    let rows: u64 = taken[first..last].iter().map(|(_, rows)| rows).sum();
                    let allowed = u64::try_from(to - from).unwrap() * u64::from(rows_a_second);
                    prop_assert!(rows * ROW <= allowed, "{} and then {}", rows, largest);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_may_go_on(rows in 1u64..100_000, rows_a_second in 1u32..5_000, now in 0i64..1_000_000) {
            let pace = Pace::default().take(rows, rate(rows_a_second), now).unwrap();
            let wait = pace.take(1, rate(rows_a_second), now).unwrap_err();
            let then = now + i64::try_from(wait.as_millis()).unwrap();
            prop_assert!(pace.take(1, rate(rows_a_second), then).is_ok());
        }

        #[test]
        fn rows_taken_on_and_all_moved_are_owed_in_full(rows in 0u64..100_000, now in 0i64..1_000_000) {
            let pace = Pace::default().take(rows, rate(7), now).unwrap();
            prop_assert_eq!(pace.correct(rows, rows, rate(7), now), pace);
        }
    }
}
