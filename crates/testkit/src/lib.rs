//! Real services and fault injection for tests.

mod apt;
pub mod containers;
pub mod jose;
pub mod local;
mod postgres;
mod previous;
mod process;
mod programs;
mod proxy;
mod python;
pub mod rabbitmq;
pub mod services;
pub mod tink;

pub use local::{PrivatePostgres, PrivateRabbitMq};
pub use postgres::TestDatabase;
pub use previous::previous_programs;
pub use programs::{program, programs};
pub use proxy::Proxy;
