//! Tables of shared work, one file each.

pub(crate) mod heartbeat;
pub(crate) mod lease;
pub(crate) mod pace;
pub(crate) mod schedule;
