//! Requests from outside.

pub(crate) mod admit;
