//! Sources, their tables and protected columns.

pub mod columns;
pub(crate) mod entities;
