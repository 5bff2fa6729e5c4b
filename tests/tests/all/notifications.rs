//! Telling people: what is told, by which channel, how often, and what a receiver that fails leads to.

mod channels;
mod failures;
mod heartbeat;
mod mail;
mod order;
mod rights;
mod storms;
