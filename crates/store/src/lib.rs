//! The store: entities, the unit of work (transaction, inbox and outbox), leases and the audit log.
//!
//! Reads are functions over any connection; writes are functions over a [`Unit`], so that nothing is
//! written outside a unit of work. A state is changed by `UPDATE … WHERE state = expected`.

pub mod audit;
pub mod batches;
pub mod broadcasts;
pub mod census;
pub mod certificates;
pub mod columns;
mod connect;
pub mod dead_letters;
pub mod entities;
mod error;
mod faults;
pub mod gauges;
pub mod heartbeats;
pub mod inbox;
pub mod keyrings;
pub mod keys;
pub mod leases;
pub mod met;
pub mod outbox;
pub mod pace;
mod pooler;
pub mod progress;
pub mod prune;
pub mod quarantine;
pub mod relay;
pub mod rights;
pub mod rotations;
pub mod schedules;
mod schema;
pub mod speed;
mod store;
pub mod stored;
pub mod stragglers;
pub mod sweeps;
#[cfg(test)]
mod test_store;
mod time;
mod unit;
mod wakes;
mod worker_lock;

pub use connect::is_postgres;
pub use error::StoreError;
pub use sea_orm::ConnectionTrait;
pub use store::{Store, sqlite_file};
pub use time::database_time;
pub use unit::Unit;
pub use worker_lock::WorkerLock;
