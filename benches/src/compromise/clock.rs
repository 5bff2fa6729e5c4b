//! The time that every process of a machine counts alike, so that what one did is compared with what another did.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds of the operating system's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(i64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Unix has this clock");
        Self(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
    }

    /// So much later.
    pub fn plus(self, lasts: Duration) -> Self {
        Self(self.0 + i64::try_from(lasts.as_nanos()).unwrap_or(i64::MAX / 2))
    }

    /// Milliseconds from `earlier` to this; less than zero if it was before.
    pub fn ms_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1e6
    }
}
