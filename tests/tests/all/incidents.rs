//! Incidents: keys that are reported compromised, whatever their keyring is in the middle of.

mod processes;
mod report;
mod states;
