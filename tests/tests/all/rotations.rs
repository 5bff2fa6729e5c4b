//! Rotations on SQLite, in this process: their steps, what they meet, how a person steers them.

mod clocks;
pub mod crash;
mod engine;
mod faults;
mod steer;
mod stragglers;
mod sweep;
pub mod waits;
