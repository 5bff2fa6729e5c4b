//! Who may ask, and how many requests of each asker are read.

pub(crate) mod allowance;
pub(crate) mod principal;
pub(crate) mod worker;
