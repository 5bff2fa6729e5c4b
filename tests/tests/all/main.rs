//! Everything.

mod architecture;
mod dependencies;
mod tink;
