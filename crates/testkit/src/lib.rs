//! Real services and fault injection for tests.

mod postgres;
mod programs;
mod proxy;
pub mod rabbitmq;
pub mod services;
pub mod tink;

pub use postgres::TestDatabase;
pub use programs::program;
pub use proxy::Proxy;
