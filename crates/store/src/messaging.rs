//! Messages, stored with the row they follow from: outbox, inbox, dead letters.

pub mod broadcasts;
pub mod dead_letters;
pub(crate) mod entities;
pub mod inbox;
pub mod outbox;
pub mod relay;
