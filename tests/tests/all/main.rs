//! Everything.
