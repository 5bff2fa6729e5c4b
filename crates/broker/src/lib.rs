//! Transport of messages behind one trait.

mod local;
mod rabbitmq;
mod transport;

pub use local::LocalTransport;
pub use rabbitmq::{Grant, RabbitMq, RabbitMqOptions, TopicGrant, grants};
pub use transport::{BrokerError, Delivery, Receipt, Settlement, Transport};
