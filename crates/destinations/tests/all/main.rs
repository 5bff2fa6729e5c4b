//! The suite that every destination passes, and what is each one's own.

#![cfg_attr(
    feature = "services",
    expect(
        clippy::shadow_unrelated,
        reason = "a test looks at one thing again and again"
    )
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "services")]
mod azure;
mod built_without;
#[cfg(feature = "services")]
mod credentials;
mod directory;
#[cfg(feature = "services")]
mod endpoint;
#[cfg(feature = "services")]
mod faults;
mod full;
#[cfg(feature = "services")]
mod hostile;
mod killed;
#[cfg(feature = "services")]
mod probe;
#[cfg(feature = "services")]
mod s3;
mod suite;
