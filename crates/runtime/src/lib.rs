//! Handlers, workers, retry, configuration, telemetry and shutdown.

#![cfg_attr(
    test,
    expect(
        clippy::shadow_unrelated,
        reason = "a test looks at one thing again and again"
    )
)]

mod account;
mod asked;
pub mod config;
mod consumer;
pub mod crash;
mod handler;
pub mod hardening;
pub mod health;
mod job;
pub mod leased;
pub mod metrics;
mod one_line;
pub mod shutdown;
pub mod telemetry;

pub use account::{account, hostname};
pub use asked::Asked;
pub use consumer::Consumer;
pub use handler::Handler;
pub use job::{Job, JobError};
pub use one_line::one_line;
