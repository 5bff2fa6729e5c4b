//! Its tables, one file each.

pub(crate) mod deployment;
