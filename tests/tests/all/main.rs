//! Everything.

mod tink;
