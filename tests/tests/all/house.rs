//! How the project itself is built: its arrows, its names, its pages.

mod architecture;
mod circles;
mod dependencies;
