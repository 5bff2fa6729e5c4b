//! Whether people are told that a key expires.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::Severity;

/// How soon a person is needed for a primary key that expires: none while it is far, or where a schedule rotates it
/// before; now once it has.
pub fn expiring(
    expires_at: Option<DateTime<Utc>>,
    warning: Duration,
    next_rotation: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<Severity> {
    let expires_at = expires_at?;
    if expires_at <= now {
        return Some(Severity::Critical);
    }
    let is_near = (expires_at - now)
        .to_std()
        .is_ok_and(|left| left <= warning);
    let is_rotated = next_rotation.is_some_and(|next| next <= expires_at);
    (is_near && !is_rotated).then_some(Severity::High)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn people_are_told_a_week_ahead_unless_a_schedule_comes_first_and_again_when_it_has_expired() {
        let (now, week) = (DateTime::UNIX_EPOCH, Duration::from_secs(7 * 24 * 3_600));
        let day = |days| Some(now + TimeDelta::days(days));
        let told = |expires, next| expiring(expires, week, next, now);
        assert_eq!(told(None, None), None);
        assert_eq!(told(day(8), None), None);
        assert_eq!(told(day(7), None), Some(Severity::High));
        assert_eq!(told(day(3), day(2)), None);
        assert_eq!(told(day(3), day(4)), Some(Severity::High));
        assert_eq!(told(day(0), day(1)), Some(Severity::Critical));
        assert_eq!(told(day(-1), None), Some(Severity::Critical));
    }
}
