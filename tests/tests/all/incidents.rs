//! Incidents: keys that are reported compromised, whatever their keyring is in the middle of.

mod report;
mod states;
