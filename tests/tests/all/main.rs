//! Everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod architecture;
mod broker;
mod clinic;
mod command_line;
mod crash;
mod dependencies;
mod engine;
mod support;
mod tink;
