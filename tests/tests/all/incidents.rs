//! Incidents: keys that are reported compromised, whatever their keyring is in the middle of.

mod crash;
mod late;
mod master;
mod processes;
mod report;
mod states;
