//! Real services and fault injection for tests.

mod rekey_binary;
pub mod tink;

pub use rekey_binary::rekey_binary;
