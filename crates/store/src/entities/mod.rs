//! The tables, one file each.

pub mod audit_detail;
pub mod audit_entry;
pub mod audit_head;
pub mod batch;
pub mod census;
pub mod dead_letter;
pub mod deployment;
pub mod heartbeat;
pub mod inbox;
pub mod key;
pub mod keyring;
pub mod lease;
pub mod met;
pub mod outbox;
pub mod pace;
pub mod protected_column;
pub mod quarantine;
pub mod rotation;
pub mod rotation_request;
pub mod schedule;
pub mod source;
pub mod source_table;
pub mod straggler_look;
