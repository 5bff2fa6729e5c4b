//! Durations, schedules, windows and delays. The clock itself is not here.

pub(crate) mod duration;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod window;
