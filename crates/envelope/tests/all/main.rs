//! The formats that are kept for ever, and the properties they rest on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;
mod properties;
