//! Tables of messages, one file each.

pub(crate) mod dead_letter;
pub(crate) mod inbox;
pub(crate) mod outbox;
