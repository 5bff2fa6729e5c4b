//! Everything.

mod architecture;
mod crash;
mod dependencies;
mod tink;
