//! Sources: every shape of table, and what is said of one before and after.

mod binds;
mod every_table;
mod locked;
mod look;
mod look_postgres;
mod poolers;
pub mod postgres_source;
pub mod renames;
mod restore;
