//! Real services and fault injection for tests.

pub mod tink;
