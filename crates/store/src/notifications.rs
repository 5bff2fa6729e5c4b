//! Telling people: channels as `rekey apply` wrote them, and what each was told.

pub mod channels;
pub mod deliveries;
pub(crate) mod entities;
