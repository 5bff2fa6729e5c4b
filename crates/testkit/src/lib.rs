//! Real services and fault injection for tests.

mod apt;
pub mod containers;
pub mod local;
mod postgres;
mod process;
mod python;
mod rekey_binary;
pub mod services;
pub mod tink;

pub use local::{PrivatePostgres, PrivateRabbitMq};
pub use postgres::TestDatabase;
pub use rekey_binary::rekey_binary;
