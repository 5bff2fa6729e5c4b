//! Everything.

#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod backups;
mod certificates;
mod command_line;
mod demo;
mod house;
mod incidents;
mod keys;
mod notifications;
mod processes;
mod quarantine;
mod recovery;
mod rotations;
mod sources;
