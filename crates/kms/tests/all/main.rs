//! The suite that every KMS passes, and what is the local one's own.

#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws;
mod aws_faults;
mod endpoint;
mod golden;
mod key_file;
mod local;
mod passphrase;
mod suite;
