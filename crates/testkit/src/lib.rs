//! Real services and fault injection for tests.

mod apt;
pub mod azure;
pub mod containers;
pub mod hpke;
pub mod jose;
mod local;
mod node;
mod pooler;
mod postgres;
mod previous;
mod process;
mod programs;
mod proxy;
mod python;
pub mod rabbitmq;
pub mod receivers;
mod running;
mod servers;
pub mod services;
pub mod tink;
pub mod tls;

pub use pooler::{PoolMode, Pooler};
pub use postgres::TestDatabase;
pub use previous::previous_programs;
pub use programs::{program, programs};
pub use proxy::Proxy;
pub use servers::{PrivateAzure, PrivateKms, PrivatePostgres, PrivateRabbitMq};
