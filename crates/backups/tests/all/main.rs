//! The format of bundles, shares and checkpoints, which is kept for ever, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]

mod bundles;
mod chains;
mod checkpoints;
mod deployments;
mod flips;
mod golden;
mod hostile;
mod python;
mod sample;
mod shares;
mod states;
