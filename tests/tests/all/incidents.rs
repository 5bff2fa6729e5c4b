//! Incidents: keys that are reported compromised, whatever their keyring is in the middle of.

mod crash;
mod crash_processes;
mod encrypting;
mod late;
mod left;
mod machines;
mod master;
mod namespace;
mod processes;
mod report;
pub mod states;
mod stopped;
mod watched;
