//! Who asks, and how much of it is looked at.

pub(crate) mod allowance;
pub(crate) mod principal;
pub(crate) mod worker;
