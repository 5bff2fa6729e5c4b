//! Tables of rotations, one file each.

pub(crate) mod batch;
pub(crate) mod census;
pub(crate) mod met;
pub(crate) mod quarantine;
pub(crate) mod reopened;
pub(crate) mod rotation;
pub(crate) mod rotation_request;
pub(crate) mod straggler_look;
