//! Time as an argument (rule 9): the one place that reads the system's clock.

use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};

/// What time it is.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "everyone else asks this one")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that is moved by hand, back too.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock, either way.
    pub fn step(&self, by: TimeDelta) {
        *self.0.lock().expect("no holder panics") += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no holder panics")
    }
}
