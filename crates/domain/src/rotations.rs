//! Rotations: their steps, batches and sweeps, what they count and leave, what stands in their way.

pub(crate) mod batch;
pub(crate) mod canary;
pub(crate) mod census;
pub(crate) mod figures;
pub(crate) mod findings;
pub(crate) mod quarantine;
pub(crate) mod rotation;
pub(crate) mod stragglers;
pub(crate) mod sweep;
