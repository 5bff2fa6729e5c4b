//! Real services and fault injection for tests.

mod postgres;
mod proxy;
pub mod rabbitmq;
mod rekey_binary;
pub mod services;
pub mod tink;

pub use postgres::TestDatabase;
pub use proxy::Proxy;
pub use rekey_binary::rekey_binary;
