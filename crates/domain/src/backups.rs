//! Backups of keys: where they are kept, when one is made or proved again, and which proof lets a key become primary.

pub(crate) mod destination;
pub(crate) mod drill;
pub(crate) mod due;
pub(crate) mod erasable;
