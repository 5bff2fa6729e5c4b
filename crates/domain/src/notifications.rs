//! Telling people: which channel is told what, when an attempt is made again, how much at once, and where it may go.

pub(crate) mod again;
pub(crate) mod answers;
pub(crate) mod channel;
pub(crate) mod delivery;
pub(crate) mod reach;
pub(crate) mod storm;
