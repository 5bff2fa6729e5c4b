//! The store: entities, the unit of work (transaction, inbox and outbox), leases and the audit log.
//!
//! Reads are functions over any connection; writes are functions over a [`Unit`], so that nothing is
//! written outside a unit of work. A state is changed by `UPDATE … WHERE state = expected`.

#![cfg_attr(
    test,
    expect(
        clippy::shadow_unrelated,
        reason = "a test looks at one thing again and again"
    )
)]

pub mod audit;
pub mod backups;
mod database;
mod error;
pub mod incidents;
pub mod keys;
mod messaging;
mod notifications;
pub mod rotations;
mod sources;
mod work;

pub use database::{
    gauges,
    place::{is_postgres, sqlite_file},
    rights,
    store::Store,
    time::database_time,
    unit::Unit,
    worker_lock::WorkerLock,
};
pub use error::StoreError;
pub use incidents::{alerts, emptied};
pub use keys::keyrings;
pub use messaging::{broadcasts, dead_letters, inbox, outbox, relay};
pub use notifications::{channels, deliveries};
pub use rotations::{
    batches, census, certificates, met, progress, prune, quarantine, reopened, speed, stragglers,
    sweeps,
};
pub use sea_orm::ConnectionTrait;
pub use sources::columns;
pub use work::{heartbeats, leases, pace, schedules};
