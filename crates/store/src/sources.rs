//! Sources, their tables and protected columns.

mod bind_types;
pub mod columns;
pub(crate) mod entities;
