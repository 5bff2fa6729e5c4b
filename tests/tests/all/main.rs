//! Everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod algorithms;
mod architecture;
mod audit;
mod broker;
mod certificate;
mod clocks;
mod cluster;
mod command_line;
mod crash;
mod demo;
mod dependencies;
mod engine;
mod every_table;
mod faults;
mod look;
mod look_postgres;
mod master;
mod ndjson;
mod postgres_source;
mod process;
mod process_faults;
mod process_metrics;
mod process_rights;
mod process_steer;
mod process_writers;
mod processes;
mod quarantine;
mod roles;
mod rolling_deploy;
mod steer;
mod support;
mod sweep;
mod tink;
mod usage;
