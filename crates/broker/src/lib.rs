//! Transport of messages behind one trait.

mod local;
mod transport;

pub use local::LocalTransport;
pub use transport::{BrokerError, Delivery, Receipt, Settlement, Transport};
