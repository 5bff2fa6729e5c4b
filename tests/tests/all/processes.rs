//! Workers as processes of their own, over PostgreSQL, RabbitMQ and a KMS.

mod broker;
mod clocks;
mod faults;
mod logs;
mod metrics;
mod rights;
mod rolling_deploy;
pub mod shifted_clock;
mod steer;
mod workers;
mod writers;
