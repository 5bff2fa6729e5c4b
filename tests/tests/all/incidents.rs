//! Incidents: keys that are reported compromised, whatever their keyring is in the middle of.

mod crash;
mod crash_processes;
mod encrypting;
mod late;
mod master;
mod namespace;
mod processes;
mod report;
mod states;
mod stopped;
