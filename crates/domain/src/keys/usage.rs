//! How many encryptions a key has left, counted over all processes by leased blocks.
//!
//! With random 96-bit nonces at most 2^32 encryptions may be made under one key, over all instances
//! (SP 800-38D §8.3). That is GCM; CBC is bounded by blocks and has the same budget, which is well
//! inside its bound (`docs/format/README.md`). Processes take blocks ahead of use; a block that is
//! lost counts as used.

use chrono::{DateTime, TimeDelta, Utc};

/// The limit of SP 800-38D §8.3, for keys of every algorithm: never passed, whoever asks.
pub const HARD_LIMIT: u64 = 1 << 32;
/// A plan of re-encryption must fit below this, nine tenths of the limit.
pub const PLAN_LIMIT: u64 = HARD_LIMIT / 10 * 9;
/// The first block a process takes.
pub const FIRST_BLOCK: u64 = 1 << 12;
/// The largest block a process takes.
pub const LARGEST_BLOCK: u64 = 1 << 20;

/// Encryptions a process may make under a key without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageBlock {
    /// How many.
    pub size: u64,
}

/// No block can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The key has made all encryptions it may. Rotating the keyring helps, retrying does not.
    #[error(
        "the key has no encryptions left ({used} of {HARD_LIMIT} used, SP 800-38D §8.3); rotate its keyring"
    )]
    Exhausted {
        /// Encryptions counted so far.
        used: u64,
    },
}

/// The size of the block after one of `previous`: doubles up to [`LARGEST_BLOCK`].
pub fn next_block_size(previous: Option<u64>) -> u64 {
    previous.map_or(FIRST_BLOCK, |size| {
        size.saturating_mul(2).clamp(FIRST_BLOCK, LARGEST_BLOCK)
    })
}

/// Takes a block of at most `wanted` from a key of which `used` are gone.
///
/// # Errors
/// [`UsageError::Exhausted`] when nothing is left below the hard limit.
pub fn take_block(used: u64, wanted: u64) -> Result<UsageBlock, UsageError> {
    let left = HARD_LIMIT.saturating_sub(used);
    if left == 0 {
        return Err(UsageError::Exhausted { used });
    }
    Ok(UsageBlock {
        size: wanted.clamp(1, LARGEST_BLOCK).min(left),
    })
}

/// Whether a plan of `encryptions` more fits under a key of which `used` are gone.
pub fn plan_fits(used: u64, encryptions: u64) -> bool {
    used.saturating_add(encryptions) <= PLAN_LIMIT
}

/// How fast a primary key is used, and when it will have made its `max_encryptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Encryptions by applications a day, on average since it became primary.
    pub per_day: u64,
    /// When its keyring rotates itself for their number; none: not at this rate, as far as dates go.
    pub reached_at: Option<DateTime<Utc>>,
}

/// Looks ahead from `now`, where applications made `used` encryptions since the key became primary
/// at `since`. None where that was less than an hour ago: too little to tell.
pub fn forecast(used: u64, max: u64, since: DateTime<Utc>, now: DateTime<Utc>) -> Option<Forecast> {
    let seconds = u64::try_from((now - since).num_seconds()).ok()?;
    if seconds < 3_600 {
        return None;
    }
    let per_day = u128::from(used) * 86_400 / u128::from(seconds);
    let left = u128::from(max.saturating_sub(used)) * u128::from(seconds);
    let in_seconds = left.checked_div(u128::from(used));
    let reached_at = in_seconds
        .and_then(|ahead| i64::try_from(ahead).ok())
        .and_then(TimeDelta::try_seconds)
        .and_then(|ahead| now.checked_add_signed(ahead));
    Some(Forecast {
        per_day: u64::try_from(per_day).unwrap_or(u64::MAX),
        reached_at,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_sequence_of_blocks_passes_the_limit(
            start in HARD_LIMIT - 3 * LARGEST_BLOCK..=HARD_LIMIT,
            asks in prop::collection::vec(0u64..u64::MAX, 1..20),
        ) {
            let mut used = start;
            for wanted in asks {
                match take_block(used, wanted) {
                    Ok(block) => { prop_assert!(block.size > 0); used += block.size }
                    Err(UsageError::Exhausted { .. }) => prop_assert_eq!(used, HARD_LIMIT),
                }
                prop_assert!(used <= HARD_LIMIT);
            }
        }
    }

    #[test]
    fn blocks_start_small_and_double() {
        let sizes: Vec<u64> = std::iter::successors(Some(next_block_size(None)), |s| {
            Some(next_block_size(Some(*s)))
        })
        .take(10)
        .collect();
        assert_eq!(sizes[..3], [1 << 12, 1 << 13, 1 << 14]);
        assert_eq!(sizes[8..], [1 << 20, 1 << 20]);
    }

    proptest! {
        #[test]
        fn a_forecast_is_reached_when_the_rate_goes_on(
            used in 0..=HARD_LIMIT, max in 1..=HARD_LIMIT, hours in 1i64..200_000,
        ) {
            let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
            let since = now - TimeDelta::hours(hours);
            let told = forecast(used, max, since, now).unwrap();
            prop_assert_eq!(told.per_day, used * 24 / hours.unsigned_abs());
            if used >= max {
                prop_assert_eq!(told.reached_at, Some(now));
            } else if let Some(at) = told.reached_at {
                let seconds = (at - since).num_seconds().unsigned_abs();
                let by_then = u128::from(used) * u128::from(seconds + 1)
                    / u128::from(hours.unsigned_abs() * 3_600);
                prop_assert!(by_then >= u128::from(max) - 1);
            }
        }
    }

    #[test]
    fn nothing_is_foretold_of_an_hour_a_step_back_of_the_clock_or_no_use() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        assert_eq!(forecast(9, 10, now - TimeDelta::minutes(59), now), None);
        assert_eq!(forecast(9, 10, now + TimeDelta::days(1), now), None);
        let unused = forecast(0, 10, now - TimeDelta::days(1), now).unwrap();
        assert_eq!((unused.per_day, unused.reached_at), (0, None));
    }

    #[test]
    fn a_plan_must_fit_in_nine_tenths() {
        assert!(plan_fits(0, PLAN_LIMIT));
        assert!(!plan_fits(1, PLAN_LIMIT));
        assert!(!plan_fits(1, u64::MAX));
    }
}
