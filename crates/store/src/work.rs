//! Work that is shared out: leases of jobs, schedules, the pace of a source, signs of life.

pub(crate) mod entities;
pub mod heartbeats;
pub mod leases;
pub mod pace;
pub mod schedules;
