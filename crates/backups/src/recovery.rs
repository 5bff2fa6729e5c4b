//! The RECOVERY key: the pair that every bundle is sealed to, and the shares that its private half leaves as.

pub(crate) mod combine;
pub(crate) mod error;
pub(crate) mod fingerprint;
pub(crate) mod key;
pub(crate) mod set;
pub(crate) mod share;
mod split;
