//! Requests from outside.

pub(crate) mod admit;
pub(crate) mod publish;
