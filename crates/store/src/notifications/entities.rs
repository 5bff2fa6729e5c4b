//! Tables of notifications, one file each.

pub(crate) mod channel;
pub(crate) mod delivery;
