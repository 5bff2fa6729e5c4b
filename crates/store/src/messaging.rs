//! Messages with the row that they follow from: outbox, inbox, and what became of those that could not be delivered.

pub mod broadcasts;
pub mod dead_letters;
pub(crate) mod entities;
pub mod inbox;
pub mod outbox;
pub mod relay;
