//! When a delivery that failed is tried again, and when it is given up.

use std::time::Duration;

/// A delivery that was not taken by then is dead.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest wait between two attempts, whoever asks for it.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// How long after a failed attempt the next one is made: chance of all up to a bound that doubles, at most an hour, and
/// not before the receiver asked for. None: it is given up.
///
/// `attempts` were made, the first of them `age` ago; `chance` lies between 0 and 1.
pub fn attempt_again(
    attempts: u32,
    age: Duration,
    asked: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    if age >= GIVEN_UP_AFTER {
        return None;
    }
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(attempts.min(20)));
    let drawn = doubled.min(LONGEST_WAIT).mul_f64(chance.clamp(0.0, 1.0));
    let asked = asked.unwrap_or_default().min(LONGEST_WAIT);
    let wait = drawn.max(asked);
    // The last attempt is made when its time is up, and not long after.
    Some(wait.min(GIVEN_UP_AFTER.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_receiver_that_asks_for_a_while_gets_it_up_to_an_hour() {
        let minute = Duration::from_secs(60);
        let wait = |asked| attempt_again(1, minute, Some(asked), 0.0);
        assert_eq!(wait(minute), Some(minute));
        assert_eq!(wait(minute * 600), Some(LONGEST_WAIT));
    }

    #[test]
    fn after_a_day_it_is_given_up() {
        assert_eq!(attempt_again(30, GIVEN_UP_AFTER, None, 0.5), None);
        let late = GIVEN_UP_AFTER - Duration::from_secs(5);
        let last = attempt_again(30, late, None, 1.0);
        assert_eq!(last, Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_an_hour(attempts: u32, age in 0u64..200_000, asked: Option<u32>, chance in 0.0..=1.0) {
            let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
            if let Some(wait) = attempt_again(attempts, Duration::from_secs(age), asked, chance) {
                prop_assert!(wait <= LONGEST_WAIT);
            }
        }
    }
}
