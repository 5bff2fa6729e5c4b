//! The database under the store: connections, the unit of work, rights, time.

pub(crate) mod connect;
pub(crate) mod entities;
pub(crate) mod faults;
pub mod gauges;
pub(crate) mod place;
pub(crate) mod pooler;
pub mod rights;
pub(crate) mod schema;
pub(crate) mod store;
pub mod stored;
#[cfg(test)]
pub(crate) mod test_store;
pub(crate) mod time;
pub(crate) mod unit;
pub(crate) mod wakes;
pub(crate) mod worker_lock;
