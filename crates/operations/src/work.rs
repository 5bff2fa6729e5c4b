//! Workers: their signs of life, and messages that they could not deal with.

pub(crate) mod dead_letters;
pub(crate) mod heartbeat;
pub(crate) mod workers;
