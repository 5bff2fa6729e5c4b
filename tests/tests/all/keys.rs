//! Keys: made, used, counted, and the master key above them.

mod algorithms;
mod compromised;
mod kms_rights;
mod lost_master_key;
mod master;
mod ndjson;
mod tink;
mod usage;
