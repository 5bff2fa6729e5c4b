//! When a failed attempt is made again: exponential backoff with full jitter, capped.

use std::time::Duration;

/// No message is put off for longer; a date further ahead means the clock was stepped back since.
pub const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// How often and how soon a failed attempt is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub attempts: u32,
    /// The longest first delay; it doubles each time.
    pub first: Duration,
    /// The longest delay of all.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_millis(500),
            cap: Duration::from_secs(5 * 60),
        }
    }
}

impl RetryPolicy {
    /// The delay after attempt number `attempt` (the first is 0) failed, or `None` when it was the
    /// last. `jitter` in 0..1 is drawn by the caller: full jitter spreads a herd evenly.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let longest = self
            .first
            .saturating_mul(1 << attempt.min(20))
            .min(self.cap)
            .min(MAX_DELAY);
        Some(longest.mul_f64(jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_end_and_stay_under_the_cap(attempt in 0u32..1_000, jitter in 0.0f64..1.0) {
            let policy = RetryPolicy::default();
            match policy.delay(attempt, jitter) {
                Some(delay) => prop_assert!(attempt < policy.attempts && delay <= policy.cap),
                None => prop_assert!(attempt >= policy.attempts),
            }
        }
    }
}
