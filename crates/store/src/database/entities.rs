//! Tables about the store itself, one file each.

pub(crate) mod deployment;
